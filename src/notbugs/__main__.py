"""`python -m notbugs` is the command line."""

from notbugs.cli import main

if __name__ == "__main__":
    main()

import pytest

from notbugs.report import write_report
from notbugs.report.reading import read_run
from report.made_run import make_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory):
    """A made-up run of ten classes, three seeds and three radii."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def run(run_folder):
    return read_run(run_folder)


@pytest.fixture(scope="session")
def page(run_folder):
    """The page of the made-up run, written once."""
    return write_report(run_folder)

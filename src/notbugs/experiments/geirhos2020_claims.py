"""What shortcut learning and the theory of non-robust features lead to expect, as rules."""

from collections.abc import Sequence

from notbugs.experiments.main_models import ROBUST, STANDARD
from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Claim, Exceeds, Given
from notbugs.features.shortcuts import KINDS

EARLY = "before the first run"
THEORY = "not published; a mark of norm n is erased by a change of n / sqrt(2)"


def _stars(row: str, column: str) -> Cell:
    return Cell("stars", row, column)


def _mark(role: str, kind: str, norm: float, column: str = "ood") -> Cell:
    return Cell("norms", f"{role}, {kind} at {norm:g}", column)


def _middle(role: str, kind: str, column: str = "ood", share: float = 1.0) -> Cell:
    """At the norm of the table of agreement."""
    return Cell("agreement", f"{role}, {kind} at {share:g}", column)


def claims_of(norms: Sequence[float], middle: float, agreement: float) -> Sequence[Claim]:
    """The paper's statements, and predictions about planted marks.

    - `norms`: of the marks; `middle`: of the tables of agreement and of remedies
    - `agreement`: a share of marks that tell the label
    """
    marks = _of_marks(norms, middle)
    return (*_of_stars(), *marks, *_of_remedies(middle, agreement), *_of_cues())


def _of_stars() -> Sequence[Claim]:
    full, conv = "fully connected", "convolutional"
    return (
        Claim(
            "stars",
            "A fully connected net tells stars from moons where they stood in training",
            "figure 2, without a number",
            AtLeast(_stars(full, "iid"), 97.0),
            fixed=EARLY,
        ),
        Claim(
            "places",
            "and by their places: where they are exchanged it is right in half of the cases at "
            "most",
            "figure 2, without a number",
            AtMost(_stars(full, "ood"), 50.0),
            needs=("stars",),
            fixed=EARLY,
        ),
        Claim(
            "anywhere",
            "The shape can be learnt: trained on shapes at any place it is right at both",
            "not published",
            AllOf(tuple(AtLeast(_stars(f"{full}/anywhere", of), 90.0) for of in ("iid", "ood"))),
            fixed=EARLY,
        ),
        Claim(
            "convolutions",
            "A net that averages over places depends on them less",
            "not published; inductive bias of the architecture (section 5)",
            Exceeds(_stars(conv, "ood"), _stars(full, "ood"), 20.0),
            fixed=EARLY,
        ),
    )


def _of_marks(norms: Sequence[float], middle: float) -> Sequence[Claim]:
    small, large = norms[-3:][0], norms[-1]
    claims = list[Claim]()
    for kind in KINDS:
        taken = Exceeds(_mark(STANDARD, kind, small, "without"), _mark(STANDARD, kind, small), 20.0)
        claims += [
            Claim(
                f"taken-{kind}",
                f"A standard net takes the shortcut of a mark ({kind}) of L2 {middle:g}: it loses "
                "30 points where the mark is that of another class",
                "shortcuts (section 2); not published as this number",
                Exceeds(_middle(STANDARD, kind, "without"), _middle(STANDARD, kind), 30.0),
                fixed=EARLY,
            ),
            Claim(
                f"small-{kind}",
                f"Robust training frees a net of a mark ({kind}) of L2 {small:g}: it has 20 points "
                "more right than a standard net",
                THEORY,
                Exceeds(_mark(ROBUST, kind, small), _mark(STANDARD, kind, small), 20.0),
                needs=(Given(f"a standard net takes that shortcut: 20 points ({kind})", taken),),
                fixed=EARLY,
            ),
            Claim(
                f"large-{kind}",
                f"It does not of one ({kind}) of L2 {large:g}: the robust net loses 30 points",
                THEORY,
                Exceeds(_mark(ROBUST, kind, large, "without"), _mark(ROBUST, kind, large), 30.0),
                fixed=EARLY,
            ),
        ]
    return claims


def _of_remedies(middle: float, agreement: float) -> Sequence[Claim]:
    def remedy(kind: str, role: str) -> Cell:
        return Cell("remedies", f"{kind}, {role}", "ood")

    def share(role: str, kind: str) -> Cell:
        return _middle(role, kind, share=agreement)

    return (
        Claim(
            "frequency",
            f"At L2 {middle:g} a robust net depends less on a mark of high frequency than on one "
            "of low frequency",
            "not published; high frequencies are non-robust features",
            Exceeds(_middle(ROBUST, "fine"), _middle(ROBUST, "shading")),
        ),
        Claim(
            "noise",
            "It is the adversary: noise of the same length leaves a net 10 points more dependent "
            "on each kind",
            "not published",
            AllOf(tuple(Exceeds(remedy(k, ROBUST), remedy(k, "noise"), 10.0) for k in KINDS)),
            fixed=EARLY,
        ),
        Claim(
            "agreement",
            f"So it is where {100 * agreement:g} % of the marks tell the label: a "
            "robust net has more right than a standard one",
            "not published",
            AllOf(tuple(Exceeds(share(ROBUST, k), share(STANDARD, k)) for k in KINDS)),
        ),
    )


def _of_cues() -> Sequence[Claim]:
    def cue(role: str, kind: str, column: str) -> Cell:
        return Cell("cues", f"{role}, {kind}", column)

    claims = list[Claim]()
    for kind, words in (("phase", "of phase and amplitude"), ("filled", "of silhouette and fill")):
        seen = AllOf(tuple(AtLeast(cue(of, kind, "agreeing"), 50.0) for of in (STANDARD, ROBUST)))
        claims.append(
            Claim(
                f"shape-{kind}",
                f"A robust net follows shape more often than a standard one, {words}",
                "of standard ImageNet nets 21.39 % for a ResNet-50, 81.37 % where trained on "
                "stylised images, 34.65 % on both (Geirhos et al. 2019); of robust nets here not "
                "published",
                Exceeds(cue(ROBUST, kind, "bias"), cue(STANDARD, kind, "bias")),
                needs=(Given(f"both see such images: 50 % where cues agree ({kind})", seen),),
            )
        )
    robust, standard = (Cell("single", of, "silhouettes") for of in (ROBUST, STANDARD))
    return (
        *claims,
        Claim(
            "silhouettes",
            "It has more silhouettes right",
            "not published",
            Exceeds(robust, standard),
        ),
    )

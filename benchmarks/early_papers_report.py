"""The Markdown of the early papers' results."""

from typing import Any

from table import conditions, table


def markdown(found: dict[str, Any]) -> str:
    """The report: conditions, and a table and its claims for each finding."""
    first, second = found["goodfellow"], found["distillation"]
    parts = (
        f"# Training in the early papers, {found['conditions']['date']}\n",
        conditions(found),
        "Errors in percent, clean ones on all images, others on the first `count`; images that "
        "are wrong without an attack are wrong under it. *Zero gradients*: of PGD's gradients, "
        "those that are exactly zero. One seed; the net is dense, 512-512 ReLU, where the papers "
        "have maxout and convolutions.\n",
        f"## Adversarial training and noise, linf:{first['eps']}\n",
        _table(first),
        "Goodfellow et al. 2014 (arXiv 1412.6572), section 6, with maxout nets: 89.4 % before, "
        "17.9 % after adversarial training; with noise of signs 86.2 %, uniform 90.4 %. PGD is "
        "not of the paper: it tells whether a model withstands more than the one step that it "
        "was trained on.\n",
        _claims(first),
        f"## Distillation at T={second['temperature']:g}, linf:{second['eps']}\n",
        _table(second),
        "FGSM and PGD climb cross-entropy at T=1; C&W may go any distance. Papernot et al. 2015 "
        "(arXiv 1511.04508); Carlini & Wagner 2016 (arXiv 1608.04644), who break it by attacking "
        "the logits.\n",
        _claims(second),
    )
    return "\n".join(parts)


def _table(found: dict[str, Any]) -> str:
    names = list(next(iter(found["models"].values())))
    rows = [(name, *(row[one] for one in names)) for name, row in found["models"].items()]
    return table(("model", *names), rows)


def _claims(found: dict[str, Any]) -> str:
    rows = [(c, "holds" if met else "**does not hold**") for c, met in found["claims"].items()]
    return table(("claim", "here"), rows)

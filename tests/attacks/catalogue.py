"""Every attack that makes adversarial examples of single images, with a short budget.

A new attack joins here by one line: the laws and the tests of bad input run on all of them.
"""

from notbugs import attacks
from notbugs.engine import L0, L1, L2, Linf
from notbugs.perception import SSIMDistance

ATTACKS = {
    "fgsm linf": attacks.fgsm(Linf(), 0.05),
    "fgsm l2": attacks.fgsm(L2(), 0.2),
    "pgd linf": attacks.pgd(Linf(), 0.05, steps=5, restarts=2),
    "pgd l2": attacks.pgd(L2(), 0.2, steps=5),
    "pgd l1": attacks.pgd(L1(), 0.5, steps=5),
    "pgd margin": attacks.pgd(Linf(), 0.05, steps=5, loss=attacks.margin),
    "pgd dlr": attacks.pgd(Linf(), 0.05, steps=5, loss=attacks.dlr),
    "bim": attacks.bim(8 / 255),
    "least likely": attacks.least_likely(8 / 255),
    "mim": attacks.mim(Linf(), 0.05, steps=5),
    "di": attacks.di_fgsm(Linf(), 0.05, steps=5),
    "ti": attacks.ti_fgsm(Linf(), 0.05, steps=5),
    "eot": attacks.eot(Linf(), 0.05, steps=5, draws=2),
    "apgd linf": attacks.apgd(Linf(), 0.05, steps=12),
    "apgd l2": attacks.apgd(L2(), 0.2, steps=12, restarts=2),
    "apgd dlr": attacks.apgd(L2(), 0.2, steps=12, loss=attacks.dlr),
    "apgd l1": attacks.apgd_l1(0.5, steps=12),
    "apgd targeted": attacks.apgd_targeted(Linf(), 0.05, steps=8, targets_tried=3),
    "fab linf": attacks.fab(Linf(), 0.05, steps=8, targets_tried=3),
    "fab l2": attacks.fab(L2(), steps=8, targets_tried=3),
    "fab l1": attacks.fab(L1(), steps=8, targets_tried=0),
    "square linf": attacks.square(Linf(), 0.05, steps=15),
    "square l2": attacks.square(L2(), 0.2, steps=15),
    "square l1": attacks.square(L1(), 0.5, steps=15),
    "ddn": attacks.ddn(steps=15),
    "fmn l0": attacks.fmn(L0(), steps=15),
    "fmn l1": attacks.fmn(L1(), steps=15),
    "fmn l2": attacks.fmn(L2(), steps=15),
    "fmn linf": attacks.fmn(Linf(), steps=15),
    "alma": attacks.alma(steps=20),
    "ead": attacks.ead(steps=8, search_steps=3),
    "cw l2": attacks.cw_l2(steps=8, search_steps=3),
    "cw l2 clipped": attacks.cw_l2(steps=8, search_steps=3, box="clipped", step_size=0.02),
    "cw l2 projected": attacks.cw_l2(steps=8, search_steps=3, box="projected", step_size=0.02),
    "cw linf": attacks.cw_linf(steps=8, shrink=0.7),
    "cw l0": attacks.cw_l0(steps=8, growth=10.0, largest_c=20.0),
    "smallest budget": attacks.smallest_budget(Linf(), budgets=(0.02, 0.05, 0.1)),
    "deepfool l2": attacks.deepfool(L2(), steps=8),
    "deepfool linf": attacks.deepfool(Linf(), steps=8),
    "jsma": attacks.jsma(),
    "lbfgs": attacks.lbfgs(steps=10, search_steps=4),
    "feature distance": attacks.feature_distance(Linf(), 0.05, steps=5, restarts=2),
    "hop skip jump": attacks.hop_skip_jump(L2(), steps=2, draws=20),
    "perceptual pgd": attacks.perceptual_pgd(SSIMDistance(), 0.05, steps=5),
    "perceptual lagrangian": attacks.perceptual_lagrangian(SSIMDistance(), 0.05, steps=5, rounds=3),
}
TARGETED_ONLY = {"jsma"}
"""Methods that aim at a class; elsewhere targets are optional."""

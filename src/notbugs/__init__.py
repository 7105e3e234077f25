"""Adversarial examples as features: which features does a model use, and which of them break?"""

__version__ = "0.1.0"

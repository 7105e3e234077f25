"""The parts of `notbugs.experiments.engstrom2019`: settings, graph, stages."""

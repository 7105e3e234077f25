import pytest

from notbugs.report import write_report
from notbugs.report.content import Content
from notbugs.report.reading import read_pictures, read_results
from report.made_run import make_run


def content_of(folder) -> Content:
    """What pages and terminals show of the run in a folder."""
    return Content.of(read_results(folder), read_pictures(folder))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory):
    """A made-up run of ten classes, three seeds and three radii."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def run(run_folder) -> Content:
    return content_of(run_folder)


@pytest.fixture(scope="session")
def page(run_folder):
    """The page of the made-up run, written once."""
    return write_report(run_folder)

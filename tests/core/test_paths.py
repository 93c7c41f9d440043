"""What lies under a path prefix, for every reader of the path."""

import pytest

from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.paths import check_path

PREFIXES = (b"/ticket/", b"/ui")


@pytest.mark.parametrize(
    "target",
    [
        b"/ticket/",
        b"/ticket/abc",
        b"/ticket/a/b?x=/../",
        b"/ui",
        b"/ui?x",
        b"/ui/",
        b"/ui/a.b/..c",
        b"/ui/%20",
        b"/ui/a..b",
        b"/ui/...",
        b"/ui/;x",
    ],
)
def test_a_path_under_a_prefix_is_served(target):
    check_path(target, PREFIXES)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/", b"/ticket", b"/uix", b"/Ui", b"/sdk", b"*", b"/ui/..", b"/ui/.", b"/ui/../x", b"/ui/..;a/x"),
        *(
            b"/ui//x",
            b"/ui\\x",
            b"/ui/%2E",
            b"/ui/%2f",
            b"/ui/%5C",
            b"/ui/%25",
            b"/ui/%3b",
            b"/ui/%0a",
            b"/ui/%7f",
        ),
        *(b"/ui/%c0%af", b"/ui/%", b"/ui/%2", b"/ui/%g0", b"/./ui/"),
    ],
)
def test_every_other_path_is_not(target):
    with pytest.raises(RouteNotFound):
        check_path(target, PREFIXES)
    check_path(target, ())

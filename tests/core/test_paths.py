"""The paths under a path prefix, for every reader of the path."""

import pytest

from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.http.paths import check_path

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
        b"/ui/%c3%a9",
        b"/ui/%E5%85%AC",
        b"/ui/%f0%9f%96%a5",
        b"/ui/%ef%bf%bf",
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
        *(b"/ui/%2e%2E/x", b"/ui/.%2e/x", b"/ui/%2E./x", b"/ui/\\..\\x", b"/ui/%5c..%5C", b"/ui/%252e%252e"),
        *(b"/ui/%u002e%u002e/x", b"/ui/%25u002e", b"/ui/..;/x", b"/ui/%2e%2e%3bx/y"),
        # overlong forms of . / \\ in two to six bytes, once and twice encoded
        *(b"/ui/%c0%ae%c0%ae/x", b"/ui/%C0%AF", b"/ui/%c1%9c", b"/ticket/%e0%80%ae%e0%80%ae/ui"),
        *(b"/ui/%E0%80%AF", b"/ui/%e0%81%9c", b"/ui/%e0%9f%bf", b"/ui/%f0%80%80%ae%F0%80%80%AE/x"),
        *(b"/ui/%f0%80%80%af", b"/ui/%f0%80%81%9C", b"/ui/%f0%8f%bf%bf", b"/ui/%f8%80%80%80%ae"),
        *(b"/ui/%fc%80%80%80%80%af", b"/ui/%25e0%2580%25ae", b"/ui/%25c0%25ae", b"/ui/%25f0%2580%2580%25ae"),
        # what is no UTF-8 at all, and what a best-fit mapping turns into a dot or a slash
        *(
            b"/ui/%80",
            b"/ui/%c3",
            b"/ui/%c3%28",
            b"/ui/%e9t%e9",
            b"/ui/%ed%a0%80",
            b"/ui/%f5%80%80%80",
            b"/ui/%ff",
        ),
        *(b"/ui/%ef%bc%8e%ef%bc%8e/x", b"/ui/%EF%BC%8F", b"/ui/%ef%bc%bc", b"/ui/%e2%88%95", b"/ui/%c2%85"),
    ],
)
def test_every_other_path_is_not(target):
    with pytest.raises(RouteNotFound):
        check_path(target, PREFIXES)
    check_path(target, ())

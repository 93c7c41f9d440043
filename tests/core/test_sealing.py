"""Sealed values open with their own secret and label only."""

import pytest

from esxiproxy.core.sealing import key_of, seal, unseal


def test_a_sealed_value_opens_with_its_secret_and_label():
    sealed = seal("vm-42 \u00fc", "secret", "links")
    assert unseal(sealed, "secret", "links") == "vm-42 \u00fc"
    assert "vm-42" not in sealed and seal("vm-42 \u00fc", "secret", "links") != sealed


@pytest.mark.parametrize(("secret", "label"), [("other", "links"), ("secret", "tickets"), (None, "links")])
def test_nothing_else_opens_it(secret, label):
    sealed = seal("vm-42", "secret", "links")
    with pytest.raises(ValueError, match="not made with this secret") as caught:
        unseal(sealed, key_of("secret") if secret is None else secret, label)
    assert "vm-42" not in str(caught.value) and sealed not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-8],
        lambda text: "AAAA" + text[4:],
        lambda text: text + "!",
        lambda text: "\u00fc",
    ],
)
def test_a_changed_value_does_not_open(change):
    with pytest.raises(ValueError, match="not made with this secret"):
        unseal(change(seal("vm-42", "secret", "links")), "secret", "links")

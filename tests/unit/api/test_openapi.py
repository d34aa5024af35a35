"""The committed OpenAPI document is the one the code makes."""

from importlib import resources

import msgspec

from market_ingestor.api.openapi import document
from market_ingestor.api.table import ALL_ENDPOINTS


def test_committed_document_is_current() -> None:
    committed = resources.files("market_ingestor.api").joinpath("openapi.json").read_bytes()
    assert msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n" == committed


def test_every_reference_is_defined() -> None:
    made = document()
    text = msgspec.json.encode(made).decode()
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(made["components"]["schemas"])


def test_operations_have_names_of_their_own() -> None:
    operations = [each for methods in document()["paths"].values() for each in methods.values()]
    assert (
        len({each["operationId"] for each in operations}) == len(operations) == len(ALL_ENDPOINTS)
    )

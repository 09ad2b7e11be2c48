"""Documents and tables from outside: what fits is read as it is, what does not is told with its place."""

from __future__ import annotations

import json

import pytest

from tests.report import samples
from vitprof.comparisons import Point
from vitprof.errors import VitprofError
from vitprof.points import point_from_row
from vitprof.report.document import json_text, rows_from_results
from vitprof.report.reading import document_from_points, document_from_text, rows_from_stored

ROW = json.loads(json_text(rows_from_results([samples.ok()], with_samples=False)))["results"][0]

OLD_COST = ("params", "macs", "weight_bytes", "activation_bytes", "uncounted_ops", "coverage")


def _with(**changes: object) -> str:
    return json.dumps({"schema_version": 1, "results": [ROW, {**ROW, **changes}]}, indent=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema_version": 1,\n "results": [}', "line 2: Expecting value"),
        ("[" * 100_000, "recursion"),
        ('{"schema_version": 1, "devices": []}', "not the document of vitprof latency"),
        ('{"schema_version": 2, "results": []}', "newer vitprof: version 2"),
        ('{"results": []}', "not the document of vitprof latency"),
        ("[1]", "not the document of vitprof latency"),
        (_with(batch="8"), "result 2, field batch: Input should be a valid integer"),
        (_with(nonsense=1), "result 2, field nonsense: Extra inputs are not permitted"),
        (_with(batch=0), "result 2 (lowformer_b1): batch 0 is not between 1 and"),
        (_with(size=[224, 2**40]), "width 1099511627776 is not between"),
        (_with(threads=10**30), "is too large a number"),
        (_with(outcome="fine"), "outcome 'fine' is neither ok nor failed"),
        (_with(started_at="yesterday"), "started_at 'yesterday' is no time"),
        (_with(throughput_images_per_s=1e999), "Infinity is not a number of JSON"),
        (_with().replace("1.0,", "1e999,", 1), "1e999 is too large a number"),
        (_with(cost={**ROW["cost"], "kinds": {"magic": {}}}), "result 2, field cost.kinds.magic"),
        (_with(model="\ud800"), "bad.json: Invalid JSON: unexpected end of hex escape at line"),
    ],
)
def test_a_document_that_is_not_ours_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(VitprofError) as caught:
        document_from_text(text, "bad.json")
    assert "bad.json" in caught.value.message and said in caught.value.message
    assert caught.value.remedy


def test_what_was_written_is_read_as_the_same_document() -> None:
    document = rows_from_results([*samples.several(), samples.hostile()], with_samples=True)
    assert document_from_text(json_text(document), "a.json") == document


def test_a_document_of_a_version_without_kinds_and_roofline_is_read() -> None:
    old = {**ROW, "cost": {name: ROW["cost"][name] for name in OLD_COST}}
    old = {name: value for name, value in old.items() if name not in ("utilisation", "bound", "roofline_ns")}
    [row] = document_from_text(json.dumps({"schema_version": 1, "results": [old]}), "old.json").results
    assert row.cost and row.cost.kinds is None and row.cost.ops is None and row.cost.activations is None
    assert row.model_dump(mode="json")["roofline_ns"] is None


def test_a_stored_row_that_cannot_be_read_is_told() -> None:
    with pytest.raises(VitprofError, match="holds a row that cannot be read: field power_w") as caught:
        rows_from_stored([{**ROW, "power_w": 3.0}])
    assert "upgrade" in caught.value.remedy


def test_a_published_row_has_its_throughput_at_its_batch_and_no_latency() -> None:
    # 109337.21 images a second; 0.04 GMAC, 0.48 million activations, 0.37 million parameters.
    told = Point("test_vit", (160, 160), 1024, "amp", "rtx3090", "torch", 1e9 / 109337.21, None, macs=0.04e9)
    point = Point(**{**vars(told), "activations": 0.48e6, "params": 0.37e6})
    document = document_from_points([point], "t.csv")
    [row] = json.loads(json_text(document))["results"]
    assert (row["latency_ns"], row["throughput_images_per_s"], row["batch"]) == (None, 109337.21, 1024)
    assert (row["cost"]["macs"], row["cost"]["activations"], row["cost"]["params"]) == (40_000_000, 480_000, 370_000)
    # Bytes of all operators are another count, and when and how it was measured is not known.
    assert row["cost"]["activation_bytes"] is None and row["source"] == "table"
    assert (row["started_at"], row["protocol_hash"], row["vitprof_version"], row["region"]) == (None,) * 4
    assert document_from_text(json_text(document), "a.json") == document
    read = point_from_row(row)
    assert isinstance(read, Point) and read.latency_ns is None
    assert read.image_ns == pytest.approx(point.image_ns, rel=1e-12)
    assert (read.activations, read.macs, read.params) == (480_000, 40_000_000, 370_000)

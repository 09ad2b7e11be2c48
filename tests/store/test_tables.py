from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitprof.analysis.disagreement import disagreement, table_groups
from vitprof.comparisons import Limits
from vitprof.errors import UsageError, VitprofError
from vitprof.measurements import Interval
from vitprof.store.tables import read_accuracies, read_table

_DATA = Path(__file__).parents[2].parent / "shared" / "data"
_CORRELATIONS = _DATA / "timm_correlations.json"
_needs_tables = pytest.mark.skipif(not _CORRELATIONS.exists(), reason="published tables lie beside the checkout")
_TABLES = (
    "benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv",
    "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv",
    "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv",
)
_TIMM_HEAD = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts"
)


def _timm(folder: Path, *rows: str) -> Path:
    path = folder / "rtx.csv"
    path.write_text("\n".join((_TIMM_HEAD, *rows)) + "\n")
    return path


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_row_of_timm_s_table_is_a_point(tmp_path: Path) -> None:
    table = read_table(_timm(tmp_path, "lcnet_035,224,50000,20.48,1024,1.64,2.03,1.04"))
    [point] = table.points
    assert (point.model, point.size, point.batch, point.device) == ("lcnet_035", (224, 224), 1024, "rtx")
    # 1 s ÷ 50,000 images; a throughput inverted is no latency.
    assert point.image_ns == 20_000.0 and point.latency_ns is None
    assert (point.macs, point.params, point.activations) == (2_030_000_000, 1_640_000, 1_040_000)
    assert (point.precision, point.backend) == ("n/a", "n/a")


def test_unusable_rows_are_counted_with_line_column_and_value(tmp_path: Path) -> None:
    good = "a,224,100,10,1,1.0,1.0,1.0"
    table = read_table(
        _timm(
            tmp_path, good, "b,224,100,10,1,1.0,,1.0", "c,224,100,10,1,1.0,nan,1.0", "d,224,-1,10,1,1.0,1.0,1.0", good,
            "e,224,100,0,1,1.0,1.0,1.0", "f,224,100,10,1.5,1.0,1.0,1.0", "g,22q,100,10,1,1.0,1.0,1.0",
            'h,224,100,10,1,"1,014.45",1.0,1.0', 'i,224,100,10,1,"10,14.45",1.0,1.0', ",224,100,10,1,1.0,1.0,1.0",
        )
    )  # fmt: skip
    assert [point.model for point in table.points] == ["a", "a", "h"], "duplicates are kept"
    assert table.points[2].params == 1_014_450_000
    assert [(row.line, row.model, row.reason) for row in table.unusable] == [
        (3, "b", "column 'infer_gmacs': '' is not a positive number"),
        (4, "c", "column 'infer_gmacs': 'nan' is not a positive number"),
        (5, "d", "column 'infer_samples_per_sec': '-1' is not a positive number"),
        (7, "e", "column 'infer_step_time': '0' is not a positive number"),
        (8, "f", "column 'infer_batch_size': '1.5' is not a whole number"),
        (9, "g", "'22q' is not an input size"),
        (11, "i", "column 'param_count': '10,14.45' is not a positive number"),
        (12, "", "column 'model' is empty"),
    ]


@pytest.mark.parametrize(
    ("time", "macs", "said"),
    [
        ("5e-324", "1", "column 'ns': '5e-324' makes 0 ns an image"),
        ("1e308", "1", "column 'ns': '1e308' makes 5e+307 ns"),
        ("2", "1e308", "gmacs 1e+308 is more than can be counted"),
        # MACs in a column of GMACs.
        ("2", "15470000000", "gmacs 1.547e+10 is more than can be counted: is it given in another unit?"),
    ],
)
def test_a_figure_that_no_computer_could_have_is_unusable(tmp_path: Path, time: str, macs: str, said: str) -> None:
    file, columns = tmp_path / "a.csv", tmp_path / "map.toml"
    file.write_text(f"net,ns,g\na,{time},{macs}\nb,2,1\n")
    columns.write_text('[columns]\nmodel = "net"\nlatency_ns = "ns"\ngmacs = "g"\n[constants]\nbatch = 2\n')
    table = read_table(file, columns)
    assert [(row.line, row.model) for row in table.unusable] == [(2, "a")] and said in table.unusable[0].reason
    assert [point.image_ns for point in table.points] == [1.0]


def test_a_table_without_the_columns_of_timm_needs_a_map(tmp_path: Path) -> None:
    with pytest.raises(VitprofError, match=r"line 1: no column 'infer_img_size'; there are: model, ms") as caught:
        read_table(_write(tmp_path, "t.csv", "model,ms\na,1\n"))
    assert "column map" in caught.value.remedy


@pytest.mark.parametrize(
    ("rows", "message", "remedy"),
    [
        (["a,224,100,10,1,1,014.45,1.0,1.0"], "line 2: 9 fields under 8 column heads", "quotes"),
        (["a,224,100,10,1,1.0,1.0,1.0", "b,224"], "line 3: 2 fields under 8 column heads, the last is '224'", "quotes"),
        (['a,224,100,10,1,1.0,1.0,"1.0'], "line 2: unexpected end of data", "mend"),
        (
            ["a,224,x,10,1,1.0,1.0,1.0"],
            "no row of it can be used; line 2: column 'infer_samples_per_sec'",
            "column map",
        ),
        ([], "it has a header only", "column map"),
    ],
)
def test_what_is_no_table_says_where(tmp_path: Path, rows: list[str], message: str, remedy: str) -> None:
    with pytest.raises(VitprofError) as caught:
        read_table(_timm(tmp_path, *rows))
    assert message in caught.value.message and str(tmp_path / "rtx.csv") in caught.value.message
    assert remedy in caught.value.remedy


def test_files_that_are_no_tables_at_all(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00model")
    for path, message in (
        (tmp_path / "absent.csv", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "binary.csv", "not a CSV in UTF-8"),
        (_write(tmp_path, "empty.csv", ""), "it is empty"),
        (_write(tmp_path, "twice.csv", _TIMM_HEAD + ",model\n"), "column 'model' is there twice"),
    ):
        with pytest.raises(VitprofError, match=message):
            read_table(path)


_MAP = """
[columns]
model = "name"
latency_ms = "ms"
gmacs = "GMACs"
mparams = "M"
batch = "bs"
size = "res"
[constants]
device = "pi5"
backend = "litert"
precision = "int8"
"""


def test_a_column_map_reads_any_csv(tmp_path: Path) -> None:
    table = read_table(
        _write(
            tmp_path, "t.csv", "﻿M,name,ms,GMACs,res,bs,more\n3.4,net,8,0.3,256x192,4,x\n,bare,1,,,1,\n,bad,,1,,1,\n"
        ),
        _write(tmp_path, "map.toml", _MAP),
    )
    net, bare = table.points
    assert (net.device, net.backend, net.precision, net.size) == ("pi5", "litert", "int8", (256, 192))
    # 8 ms for four images.
    assert (net.image_ns, net.latency_ns) == (2e6, Interval(8e6, None, None))
    assert (net.macs, net.params, net.activations) == (0.3e9, 3.4e6, None)
    assert (bare.size, bare.macs, bare.params) == (None, None, None), "what a map's table leaves open is unknown"
    assert [(row.line, row.model) for row in table.unusable] == [(4, "bad")]


@pytest.mark.parametrize(
    ("changed", "by", "message"),
    [
        ('model = "name"', "", "names no model"),
        ('latency_ms = "ms"', "", "0 columns of time"),
        ('latency_ms = "ms"', 'latency_ms = "ms"\nsamples_per_s = "x"', "2 columns of time"),
        ('gmacs = "GMACs"', 'gmacs = "GMACs"\nmacs = "x"', "macs and gmacs"),
        ('batch = "bs"', "", "no batch is given"),
        ('device = "pi5"', "batch = 1", "'batch' is a column and a constant"),
        ('device = "pi5"', 'colour = "red"', "unknown key 'colour' in \\[constants\\]"),
        ('mparams = "M"', "mparams = [1]", "key 'mparams' in \\[columns\\] is \\[1\\]"),
        ("[constants]", "[fixed]", "unknown table \\[fixed\\]"),
        ("[constants]", "[constants", "not TOML: .*line 9"),
    ],
)
def test_a_column_map_that_cannot_be_meant_says_why(tmp_path: Path, changed: str, by: str, message: str) -> None:
    path = _write(tmp_path, "map.toml", _MAP.replace(changed, by))
    with pytest.raises(UsageError, match=message):
        read_table(_write(tmp_path, "t.csv", "name\n"), path)


def test_a_constant_batch_is_a_whole_number(tmp_path: Path) -> None:
    text = _MAP.replace('batch = "bs"', "").replace('device = "pi5"', "batch = {}")
    table = _write(tmp_path, "t.csv", "name,ms,GMACs,M,res\nnet,8,1,1,224\n")
    assert read_table(table, _write(tmp_path, "map.toml", text.format(2))).points[0].image_ns == 4e6
    for wrong in ("0", "-1", '"x"', "1.5"):
        with pytest.raises(UsageError, match="batch"):
            read_table(table, _write(tmp_path, "map.toml", text.format(wrong)))


_ACCURACIES = """model,img_size,top1,param_count
vit_base.augreg,224,84.5,"1,014.45"
vit_base.in21k,224,85.1,86.0
vit_base.in21k,384,86.0,86.0
resnet50.a1,224,80.2,25
resnet50,224,76.1,25
"""


def test_accuracies_join_on_name_and_size_and_say_which_tag(tmp_path: Path) -> None:
    table = read_accuracies(_write(tmp_path, "results.csv", _ACCURACIES))

    def found(model: str, size: tuple[int, int] | None) -> tuple[str, float] | None:
        row = table.accuracy_of(model, size)
        return (row.model, row.top1_percent) if row else None

    assert found("vit_base", (224, 224)) == ("vit_base.in21k", 85.1), "the best of its tags"
    assert found("vit_base.augreg", (224, 224)) == ("vit_base.augreg", 84.5)
    assert found("timm:vit_base", (384, 384)) == ("vit_base.in21k", 86.0)
    assert found("vit_base", (256, 256)) is None, "never on the name alone"
    assert found("vit_base.dino", (224, 224)) is None, "another tag is another model"
    assert found("vit_base", None) is None and found("vit_base.augreg", None) == ("vit_base.augreg", 84.5)
    assert found("resnet50", (224, 224)) == ("resnet50", 76.1), "the name itself goes before its tags"
    assert found("torchvision:resnet50", (224, 224)) is None
    assert found("vit", (224, 224)) is None


def test_accuracies_without_sizes_and_as_shares(tmp_path: Path) -> None:
    plain = read_accuracies(_write(tmp_path, "plain.csv", "model,top1\nnet,70.5\nodd,\nmuch,101\n"))
    row = plain.accuracy_of("net", (320, 320))
    assert row is not None and (row.size, row.top1_percent) == (None, 70.5)
    assert [one.line for one in plain.unusable] == [3, 4]
    shares = _write(tmp_path, "shares.csv", "name,acc,px\nnet,0.705,256\n")
    column_map = _write(tmp_path, "map.toml", '[columns]\nmodel = "name"\ntop1_share = "acc"\nsize = "px"\n')
    row = read_accuracies(shares, column_map).accuracy_of("net", (256, 256))
    assert row is not None and row.top1_percent == pytest.approx(70.5)
    with pytest.raises(VitprofError, match=r"its best top1 is 0\.7") as caught:
        read_accuracies(_write(tmp_path, "low.csv", "model,top1\nnet,0.7\n"))
    assert "top1_share" in caught.value.remedy
    with pytest.raises(VitprofError, match="no column 'top1'"):
        read_accuracies(_write(tmp_path, "none.csv", "model\nnet\n"))
    with pytest.raises(UsageError, match="top1 or top1_share"):
        read_accuracies(shares, _write(tmp_path, "map.toml", '[columns]\nmodel = "name"\n'))


@_needs_tables
def test_timm_s_results_file_is_read_whole() -> None:
    table = read_accuracies(_DATA / "timm" / "results-imagenet.csv")
    assert not table.unusable
    assert sum(len(rows) for rows in table.by_bare_name.values()) == 1556
    row = table.accuracy_of("eva02_large_patch14_448", (448, 448))
    assert row is not None
    assert (row.model, row.top1_percent) == ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 90.056)


@_needs_tables
@pytest.mark.parametrize("name", _TABLES)
def test_the_correlations_of_timm_s_tables_to_four_decimals(name: str) -> None:
    expected = json.loads(_CORRELATIONS.read_text())["files"][name]
    table = read_table(_DATA / "timm" / name)
    whole, *by_batch = table_groups(table.points)
    assert (whole.batch, len(whole.points)) == (None, expected["all"]["n"])
    assert len(table.points) + len(table.unusable) == expected["n_rows_file"]
    assert {str(group.batch): len(group.points) for group in by_batch} == expected["batch_sizes"]
    found = disagreement(whole)
    for count, theirs in (("macs", "gmacs"), ("activations", "macts"), ("params", "params")):
        spearman, kendall = found.spearman[count], found.kendall[count]
        assert spearman.value is not None and kendall.value is not None
        assert round(spearman.value, 4) == expected["all"][theirs]["spearman"]
        assert round(kendall.value, 4) == expected["all"][theirs]["kendall"]
        for one in (spearman, kendall):
            assert one.low is not None and one.high is not None and one.value is not None
            assert one.low < one.value < one.high
    assert found.log_macs_r2 == pytest.approx(expected["all"]["fit_gmacs"]["r2_log"])
    assert {"macs": "gmacs", "activations": "macts"}[found.best_count or ""] == expected["all"][
        "better_predictor_spearman"
    ]


@_needs_tables
@pytest.mark.parametrize("name", _TABLES)
def test_the_inversions_of_timm_s_tables(name: str) -> None:
    document = json.loads(_CORRELATIONS.read_text())
    expected, method = document["files"][name], document["method"]["subset_efficient"].removeprefix("regex ")
    points = [point for point in read_table(_DATA / "timm" / name).points if re.search(method, point.model)]
    assert len(points) == expected["efficient"]["n"]
    # The published totals leave the three `test_` models out, though the expression that comes with them has `test_`.
    serious = [point for point in points if not point.model.startswith("test_")]
    assert len(points) - len(serious) == 3
    found = disagreement(table_groups(serious)[0])
    assert found.inversions_total == expected["inversions_total"]
    assert found.pairs == len(serious) * (len(serious) - 1) // 2
    everything = disagreement(table_groups(points)[0], all_pairs=True)
    # One, two or three small nets take 1.5 times as long as test_efficientnet, which counts as many MACs twice over.
    odd = [one for one in everything.inversions if "test_" in one.slower.model + one.faster.model]
    assert {one.faster.model for one in odd} == {"test_efficientnet"}
    assert everything.inversions_total == len(everything.inversions) == found.inversions_total + len(odd)
    at_224 = [point for point in points if point.size == (224, 224)]
    assert disagreement(table_groups(at_224)[0]).inversions_total == expected["inversions_224_total"]
    worst = expected["inversions_worst"][0]
    first = everything.inversions[0]
    assert (first.slower.model, first.faster.model) == (worst["slow_model"], worst["fast_model"])
    assert first.severity == pytest.approx(worst["score"], abs=0.01)


@_needs_tables
def test_the_iphone_s_table_through_a_column_map(tmp_path: Path) -> None:
    column_map = _write(
        tmp_path,
        "iphone13.toml",
        """
        [columns]
        model = "model"
        mparams = "params_m"
        gmacs = "gmacs"
        latency_ms = "latency_ms"
        size = "resolution"
        [constants]
        device = "iphone13"
        backend = "coreml"
        batch = 1
        """,
    )
    table = read_table(_DATA / "published_iphone13_coreml.csv", column_map)
    assert (len(table.points), len(table.unusable)) == (61, 3)
    found = disagreement(table_groups(table.points)[0], Limits())
    macs, params = found.spearman["macs"].value, found.spearman["params"].value
    assert macs is not None and params is not None
    assert (round(macs, 3), round(params, 3)) == (0.394, 0.511)
    tau = found.kendall["macs"].value
    assert tau is not None and round(tau, 3) == 0.282
    assert (found.inversions_total, found.pairs) == (198, 1830)


def test_a_table_is_compared_without_torch_scipy_or_a_database() -> None:
    program = (
        "import sys, vitprof.store.tables, vitprof.analysis.disagreement, vitprof.analysis.verdicts, "
        "vitprof.analysis.pareto; print(sorted({'torch', 'scipy', 'pydantic', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""What a person sees: nothing cut, nothing run, the numbers those of the results, the remedies there once."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from vitprof.measurements import Doubt
from vitprof.records import Exported, ModelSpec, ProgramFacts, Result, Source
from vitprof.report.table import significant
from vitprof.report.terminal import show, show_exports

from . import samples


def on_terminal(*results: Result, width: int) -> str:
    """The text on a terminal of `width` columns, colours left out."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)
    show(results, console)
    return written(console)


def piped(*results: Result, width: int | None = None) -> str:
    console = Console(file=io.StringIO(), force_terminal=False, width=width)
    show(results, console)
    return written(console)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def table(text: str) -> list[list[str]]:
    """Head and rows of the table, split where two blanks part the columns."""
    start = next(index for index, line in enumerate(text.splitlines()) if line.startswith("model"))
    lines = text.splitlines()[start : start + 1 + len(samples.several())]
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


@pytest.mark.parametrize("width", [80, 120])
def test_golden_output(width: int) -> None:
    samples.check(f"several-{width}.txt", on_terminal(*samples.several(), width=width))
    for name in ("ok", "broken", "failed", "partial", "no_reference", "warned"):
        samples.check(f"{name}-{width}.txt", on_terminal(getattr(samples, name)(), width=width))


def test_golden_output_in_a_pipe() -> None:
    samples.check("several-piped.txt", piped(*samples.several()))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    pages = [on_terminal(*samples.several(), width=width)]
    pages += [on_terminal(result, width=width) for result in samples.several()]
    assert max(len(line) for page in pages for line in page.splitlines()) <= width


def test_in_a_pipe_the_width_of_the_terminal_does_not_matter() -> None:
    assert piped(*samples.several(), width=40) == piped(*samples.several(), width=300)
    assert piped(samples.ok(), width=40) == piped(samples.ok(), width=300)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_number_of_the_block_is_whole_at_every_width(width: int) -> None:
    def numbers(text: str) -> list[str]:
        return re.findall(r"\d[\d.,]*", text)

    assert numbers(on_terminal(samples.ok(), width=width)) == numbers(piped(samples.ok()))


def test_numbers_read_back_from_the_table_are_the_values() -> None:
    head, *rows = table(piped(*samples.several()))
    column = {name: head.index(name) for name in ("call ms", "ratio", "GMAC", "images/s", "n")}
    for row, result in zip(rows, samples.several(), strict=True):
        if result.summary is None or result.artifact is None:
            assert {row[index] for index in column.values()} == {"n/a"}
            continue
        latency, relative = result.summary.latency, result.summary.relative
        expected = {
            "call ms": latency.p50_ns.value / 1e6,
            "ratio": relative.ratio.value if relative else None,
            "GMAC": (result.artifact.cost.macs or 0) / 1e9,
            "images/s": result.summary.throughput_images_per_s,
            "n": latency.samples,
        }
        for name, value in expected.items():
            shown = row[column[name]]
            assert shown == "n/a" if value is None else float(shown.replace(",", "")) == pytest.approx(value, rel=5e-4)


def test_times_and_rates_of_the_table_agree_with_each_other() -> None:
    head, *rows = table(piped(*samples.several()))
    for row in rows:
        cell = dict(reversed(list(zip(head, row, strict=True))))
        if cell["call ms"] != "n/a":
            seconds = float(cell["call ms"]) / 1e3
            assert float(cell["GMAC/s"]) == pytest.approx(float(cell["GMAC"]) / seconds, rel=2e-3)
            assert float(cell["images/s"].replace(",", "")) == pytest.approx(1 / seconds, rel=2e-3)


def test_a_broken_export_is_struck_out_and_says_so_in_plain_text() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard", no_color=False)
    show([samples.broken()], console)
    assert re.search(r"\x1b\[[\d;]*9m9\.876 ms", written(console))
    assert "broken: not the model's outputs" in piped(samples.broken())
    assert "broken: not the model's outputs: efficientformer_l1" in piped(*samples.several())
    assert "broken" in on_terminal(*samples.several(), width=60)


def test_nothing_else_is_struck_out() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system="standard", no_color=False)
    show([samples.ok(), samples.quick(), samples.partial()], console)
    assert not re.search(r"\x1b\[(?:\d+;)*9(?:;\d+)*m", written(console))


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard")
    show(samples.several(), console)
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])(?:;\d+)*m", written(console))


def test_terminal_codes_and_markup_from_outside_do_not_reach_the_terminal() -> None:
    text = on_terminal(samples.hostile(), width=80) + on_terminal(samples.hostile(), samples.ok(), width=80)
    assert "boom [bold]x[/bold] |`*_<b> second line" in text
    assert samples.HOSTILE_NAME in text
    assert not set(text) & set("\x1b\x07\x9b\u202e\r")
    assert "31m" not in text and "title" not in text


def test_a_warning_that_two_models_share_is_printed_once_with_both() -> None:
    text = piped(*samples.several())
    assert text.count("close other programs") == 1
    assert "disturbed: vit_tiny_patch16_224, swin_tiny_patch4_window7_224" in text


def test_facts_that_differ_name_their_model() -> None:
    other = dataclasses.replace(samples.QUEUED, detail="9 of 12 blocks waited for a core")
    changed = dataclasses.replace(samples.ok(), summary=samples.summary(1.0, warnings=(other,)))
    text = piped(samples.warned(), changed)
    assert "    lowformer_b1: 9 of 12 blocks waited for a core\n" in text
    assert "    vit_tiny_patch16_224: 3 of 12 blocks waited for a core\n" in text


def test_the_same_model_twice_is_told_apart() -> None:
    spec = ModelSpec("lowformer_b1", Source.TIMM, batch=8)
    failed = samples.result("", spec=spec, failure=samples.failed().failure)
    text = piped(samples.ok(), failed)
    assert re.search(r"^model +batch ", text, re.MULTILINE)
    assert "failed at export: lowformer_b1, batch 8" in text


def test_a_name_too_long_for_the_screen_stands_on_its_own_line_uncut() -> None:
    name = "vit_so400m_patch14_siglip_gap_896.pali_pt_and_then_some_more_words"
    text = on_terminal(samples.measured(name, 5.0, 10**9, 10**6), samples.ok(), width=80)
    assert f"\n{name}\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_results_is_said() -> None:
    assert piped() == "no results\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05654, "0.05654"),
        (9.99996, "10.00"),
        (0.99996, "1.000"),
        (1234.5, "1,234"),
        (123456.0, "123,456"),
        (0.0, "0"),
    ],
)
def test_four_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_an_export_says_what_its_program_consists_of_and_what_to_doubt_with_the_remedy() -> None:
    spec = ModelSpec("resnet50", Source.TIMM)
    ops = {"conv": 53, "relu": 49, "add": 16, "max_pool": 1, "reduce_mean": 1, "linear": 1}
    program = ProgramFacts(ops, {"fp16": 120, "int32": 1}, 25_530_000, 4_089_000_000)
    doubt = Doubt("whole numbers", "1 of 121 operators (1 topk), in head", "use \x1b[31mother ones")
    artifact = dataclasses.replace(samples.artifact(spec, 1, 2), program=program, lint=(doubt,))
    console = Console(file=io.StringIO(), force_terminal=False, width=300)
    show_exports([Exported(spec, "coreml", artifact=artifact, parity=samples.MATCH)], console)
    shown = written(console)
    assert (
        "program: takes a tensor; 121 operators (53 conv, 49 relu, 16 add, 1 max_pool, 1 reduce_mean, …), "
        "120 in fp16, 1 in int32; "
        "4.089 GMAC, 25.53 M parameters" in shown
    )
    assert "whole numbers: 1 of 121 operators (1 topk), in head" in shown
    assert "remedy: use other ones" in shown

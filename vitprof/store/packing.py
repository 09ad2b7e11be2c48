"""JSON values as the results store keeps them: compressed, with the facts that last once for all rows.

Its own file because bytes that were written once are read for ever: nothing here may change what it makes of a value.
Another way of packing gets another first byte.

    packed value    one byte, which says how; then JSON in UTF-8 as a zlib stream. 1: by itself; 2: of a row, with
                    `_ROW_WORDS` as its dictionary (a third of the size: most of a row are the names of its fields)
    environment     its numbers move (load, clocks, heat) and stay with the row; all else lasts and is kept once
    cell            by the hash of its columns, and of whether its model is as built
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from vitprof.errors import VitprofError

_PLAIN, _ROW = b"\x01", b"\x02"
# What is common comes last: a reference to it is shorter.
_ROW_WORDS = (
    b'"failure":{"stage":"run","error":"","remedy":"run the same command again"},"stage":"export",'
    b'"source":"torchvision","source":"table","source":"onnx","kinds":{"conv":{"calls":,"pointwise_conv":{"calls":,"depthwise_conv":{"calls":'
    b'"linear":{"calls":,"attention":{"calls":,"other_matmul":{"calls":,"elementwise":{"calls":,"norm":{"calls":'
    b'"pool":{"calls":,"resample":{"calls":,"transcendental":{"calls":1,"macs":0,"bytes_in":0,"bytes_out":0,'
    b'"weight_bytes":0},{"code":"disturbed","detail":" blocks waited for a core","remedy":"close other programs, or '
    b'run on an idle machine"},{"code":"no reference","detail":"","remedy":""},"fixups":["batch",'
    b'"hash":"gpu","temperature_c":"clock_hz":"throttle_count":,"backend":"torch","backend":"openvino","precision":"fp16","outcome":"failed"'
    b'{"model":"vit_small_patch16_224","source":"timm","size":[224,224],"batch":1,"precision":"fp32","device":"local",'
    b'"backend":"ort","backend_version":"1.","threads":1,"region":"call","clock":"host","outcome":"ok","latency_ns":'
    b'{"p50":,"p90":null,"p99":null,"mean":,"min":,"max":,"ci95":[,"samples":,"sets":3,"rounds":,"warmup_samples":,'
    b'"outliers":0,"stop_reason":"precision","device_p50":null},"relative":{"reference":"cpu-ref-1","ratio":0.,"ci95":'
    b'[0.,"reference_spread":0.0,"grade":"A"},"drift_corrected_ns":null,"throughput_images_per_s":,"cold_ns":{"load":,'
    b'"build":null,"first_call":},"cost":{"params":,"macs":,"weight_bytes":,"activation_bytes":,"activations":null,'
    b'"ops":,"kinds":null,"uncounted_ops":{},"coverage":1.0,"is_lower_bound":false},"achieved_macs_per_s":,'
    b'"utilisation":null,"bound":null,"roofline_ns":null,"memory":{"peak_rss_bytes":,"peak_device_bytes":null},'
    b'"energy_j_per_image":null,"launch_share":null,"instructions_per_inference":null,"parity":{"verdict":"match",'
    b'"where":"device","max_rel_error":,"cosine":0.99999999,"top1_agreement":1.0,"reason":null},"artifact":{"format":'
    b'"onnx","sha256":"","bytes":,"exporter":"torch.onnx dynamo","fixups":[]},"placement":{"ops":1.0,"macs":1.0},'
    b'"grade":"A","warnings":[],"protocol_hash":"","environment":{"before":{"cores":,"load_1min":0.},"after":{"cores":,'
    b'"load_1min":0.},"clock_step_ns":,"clock_cost_ns":,"loop_overhead_ns":},"vitprof_version":"0.1.0","started_at":"20'
)
_LEVEL = 9
# The raw samples of an hour take a few megabytes: what unpacks to more was made to fill the memory.
LARGEST_VALUE_BYTES = 100_000_000
# The columns of a cell, in the order of its key.
CELL_NAMES = (
    *("model", "source", "height", "width", "batch", "precision"),
    *("device", "backend", "threads", "protocol_hash"),
)
# 128 bits: two rows of a store do not share one by chance.
_HASH_DIGITS = 32


def packed(value: object) -> bytes:
    """`value` as the store keeps it; `ValueError` for a number that JSON has not, `VitprofError` for one too large."""
    return _PLAIN + zlib.compress(_content(value), _LEVEL)


def packed_row(row: Mapping[str, Any]) -> bytes:
    """A row in the JSON of `latency`, in less space than `packed` takes."""
    squeeze = zlib.compressobj(_LEVEL, zdict=_ROW_WORDS)
    return _ROW + squeeze.compress(_content(row)) + squeeze.flush()


def _content(value: object) -> bytes:
    """What is compressed: nothing that could not be read again."""
    content = text_of(value).encode()
    if len(content) > LARGEST_VALUE_BYTES:
        raise VitprofError(
            f"a result takes {len(content):,} bytes, the store keeps {LARGEST_VALUE_BYTES:,} of one at most",
            remedy="leave out its raw samples: vitprof results export --no-samples",
            stage="store",
        )
    return content


def unpacked(blob: bytes) -> Any:
    """The value again; `ValueError` for bytes that hold none."""
    how, rest = blob[:1], blob[1:]
    if how not in (_PLAIN, _ROW):
        raise ValueError(f"a value is packed in a way that this version does not know: {how!r}")
    reader = zlib.decompressobj(zdict=_ROW_WORDS) if how == _ROW else zlib.decompressobj()
    try:
        return json.loads(decompressed(reader, rest))
    except (zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"a packed value is damaged: {error}") from error


def decompressed(reader: zlib._Decompress, stream: bytes) -> bytes:
    """All of a zlib stream; `ValueError` for one that is cut short or far larger than a value of the store."""
    content = reader.decompress(stream, LARGEST_VALUE_BYTES)
    if not reader.eof:
        raise ValueError(f"it is cut short, or takes more than {LARGEST_VALUE_BYTES} bytes")
    return content


def text_of(value: object, *, sort_keys: bool = False) -> str:
    """JSON on one line without spaces; `ValueError` for a number that JSON has not."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)


def value_of(text: str) -> Any:
    """What a JSON text that the store wrote says."""
    return json.loads(text)


def hash_of(value: object) -> str:
    """Equal for equal JSON values, whatever the order of their keys."""
    return hashlib.sha256(text_of(value, sort_keys=True).encode()).hexdigest()[:_HASH_DIGITS]


def cell_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row in the JSON of `latency` measures, with the key by which its cell is found."""
    height, width = row["size"] or (None, None)
    columns = {**{name: row.get(name) for name in CELL_NAMES}, "height": height, "width": width}
    return {"key": _key(columns, as_built=bool(row.get("as_built"))), **columns}


def is_as_built(cell: Mapping[str, Any]) -> bool:
    """Whether the rows of a cell, given by its columns, are of a model as built: only its key says so."""
    return bool(cell["key"] == _key(cell, as_built=True))


def _key(columns: Mapping[str, Any], *, as_built: bool) -> str:
    # Rows of before this was kept have the keys that they had.
    return hash_of([columns[name] for name in CELL_NAMES] + (["as built"] if as_built else []))


def content_hash(row: Mapping[str, Any]) -> str:
    """Equal for two documents of one measurement, whether or not its raw samples were asked for."""
    return hash_of({name: value for name, value in _known(row).items() if not name.endswith("samples_ns")})


def lasting(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Of an environment what stays from row to row: all but its numbers."""
    return {
        name: lasting(value) if isinstance(value, dict) else value
        for name, value in environment.items()
        if not _is_moving(value)
    }


def moving(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of it."""
    parts = {
        name: moving(value) if isinstance(value, dict) else value
        for name, value in environment.items()
        if isinstance(value, dict) or _is_moving(value)
    }
    return {name: value for name, value in parts.items() if value != {}}


def joined(kept: Mapping[str, Any], moved: Mapping[str, Any]) -> dict[str, Any]:
    """The environment that the two are the parts of."""
    whole = {
        name: joined(value, moved.get(name, {})) if isinstance(value, dict) else value for name, value in kept.items()
    }
    return {**whole, **{name: value for name, value in moved.items() if name not in kept}}


def _is_moving(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _known(value: Any) -> Any:
    """Without what is null: a field that a later version adds must not make old rows into other ones."""
    if isinstance(value, dict):
        return {name: _known(entry) for name, entry in value.items() if entry is not None}
    return [_known(entry) for entry in value] if isinstance(value, list) else value

"""Whether a Core ML package computes what the module did, by a reference evaluator: no Mac is needed.

Its own file because it runs in the preparing process, where torch is: the other formats are checked by a backend.
"""

from __future__ import annotations

from vitprof.errors import VitprofError
from vitprof.export.mil_eval import evaluate_function, main_function
from vitprof.export.parity import compare, read_tensors
from vitprof.records import Artifact, Parity, ParityVerdict

WHERE = "reference evaluator"


def reference_parity(artifact: Artifact) -> Parity:
    """The saved program's outputs against those of the original module, `not-checked` where they cannot be had."""
    if artifact.expected is None:
        return Parity(ParityVerdict.NOT_CHECKED, reason=artifact.expected_missing)
    images = read_tensors(
        artifact.folder / artifact.inputs, [(artifact.input_dtype, artifact.input_shape)] * artifact.input_count
    )
    try:
        main = main_function(artifact.path)
        actual = [
            output for image in images for output in evaluate_function(main, {artifact.input_name: image}).values()
        ]
    except VitprofError as error:
        # An operator without a reference, or a package that cannot be read here: nothing is known of its outputs.
        return Parity(ParityVerdict.NOT_CHECKED, where=WHERE, reason=error.message)
    expected = read_tensors(artifact.folder / artifact.expected, artifact.expected_outputs * artifact.input_count)
    return compare(expected, actual, artifact.spec.precision, where=WHERE)

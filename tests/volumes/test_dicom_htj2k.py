"""High-Throughput JPEG 2000, which nothing here can write: codestreams by OpenJPH."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from tatcli.errors import VolumeReadError
from tatcli.volumes import read_volume

UNSIGNED = base64.b64decode(
    "/0//UQApQAAAAAAUAAAAGAAAAAAAAAAAAAAAFAAAABgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJ"
    "CQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAXIAAf+TwAAmxfcFB3QAwAASwAASwAASgIMBB3QAQgGHdADqAAd0AMAA"
    "EsAAE0AAEoAiAIt0ADbuACI0APAAB3QAwAAVMAAFbAABVB1BECn1OCGUAC9QqwFjSAyLzJD/NwChRYWn5AWYQzUAwAAW9AABbsAAFvjhPQXoqc"
    "GYIgCFeqhVLANgiUwyB2OkzzMOLyQ7mwBBADYRYhEbQBwGIBY0T3Al9PEA6hJ+cpub6QGbAIXzW4IBZRwCBw5gaIYfApIQQHjsELvM7sdBD/kR"
    "mwDAAC7SAAF20AALpJox09u6tW7JeVs2d0r7bNmeKZlurG3vxqSkyZjLdr+Yr/xaOD5XI5Wi/NpGJP4aS38veQHG3HsaN71TSju1NtdEbXZD59"
    "50diMzY4wxRv6VLLLSl5MEPvdA15bheSMsBGRUQwYJCaQDWwHMHAeLYTlY5mAYM8ZhOZyVga/E68jCChAsGRp7BCFhmfzPdQH/2Q=="
)
SIGNED = base64.b64decode(
    "/0//UQApQAAAAAAUAAAAGAAAAAAAAAAAAAAAFAAAABgAAAAAAAAAAAABjwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJ"
    "CQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAXEAAf+TwAAl3QCHdADAABLAABLAABKAgwEHdABCAYd0AOoAB3QAwAAS"
    "wAATQAASgCIAi3QANu4AIjQA8AAHdADAABUwAAVsAAFUHUEQKfU4IZQAL1CrAWNIDIvMkP83AKFFhafkBZhDNQDAABb0AAFuwAAW+OE9BeipwZ"
    "giAIV6qFUsA2CJTDIHY6TPMw4vJDubAEEANhFiERtAHAYgFjRPcCX08QDqEn5ym5vpAZsAhfNbggFlHAIHDmBohh8CkhBAeOwQu8zux0EP+RGb"
    "AMAALtIAAXbQAAukmjHT27q1bsl5WzZ3Svts2Z4pmW6sbe/GpKTJmMt2v5iv/Fo4PlcjlaL82kYk/hpLfy95Acbcexo3vVNKO7U210RtdkPn3n"
    "R2IzNjjDFG/pUsstKXkwQ+90DXluF5IywEZFRDBgkJpANbAcwcB4thOVjmYBgzxmE5nJWBr8TryMIKECwZGnsEIWGZ/M91Af/Z"
)
SYNTAXES = [f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)]
"""Lossless, lossless with resolutions in order, lossy allowed: PS3.5 10.18."""


def disc() -> np.ndarray:
    row, column = np.mgrid[:24, :20]
    return 1000 + ((row - 11) ** 2 + (column - 9) ** 2 < 60) * 60 + 7 * row - 5 * column


def scan(series: Callable[..., Any], stream: bytes, pixels: np.ndarray, syntax: str) -> Path:
    path = series().add(pixels, (0, 0, 0))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([stream])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_unsigned_and_signed(series: Callable[..., Any], syntax: str) -> None:
    path = scan(series, UNSIGNED, disc().astype(np.uint16), syntax)
    np.testing.assert_array_equal(read_volume(path).array[0], disc() - 1024)
    path = scan(series, SIGNED, (disc() - 1100).astype(np.int16), syntax)
    np.testing.assert_array_equal(read_volume(path).array[0], disc() - 1100 - 1024)


def test_a_damaged_stream(series: Callable[..., Any]) -> None:
    path = scan(series, UNSIGNED[:90], disc().astype(np.uint16), SYNTAXES[0])
    with pytest.raises(VolumeReadError, match="that don't decode"):
        read_volume(path)

"""A probe for the eye: a few aligned lines a file, and the line that mends it on a line of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from service.errors import ReelserveError
from service.probing import Probe
from service.terminal import plain
from service.video.cost import Cost
from service.video.facts import ProbeFacts

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def report(console: Console, file: Path, answer: Probe | ReelserveError) -> None:
    """Print one file."""
    console.print(plain(file, "bold"), soft_wrap=True)
    table = Table(Column(style="dim", no_wrap=True), Column(overflow="fold"), box=None, show_header=False)
    if isinstance(answer, ReelserveError):
        table.add_row(Text("error", style=_STYLES["error"]), plain(f"{answer.code}: {answer.detail}"))
    else:
        for name, words in _lines(answer):
            table.add_row(name, plain(words))
        for finding in answer.findings:
            style = _STYLES[finding.severity]
            said = Text.assemble((f"{finding.code}: ", style), plain(finding.message))
            table.add_row(Text(finding.severity, style=style), said)
    console.print(table)
    if isinstance(answer, Probe) and answer.mend:
        # Unwrapped: to be copied.
        console.print(plain(answer.mend), soft_wrap=True)
    console.print()


def _lines(answer: Probe) -> Iterator[tuple[str, str]]:
    video = answer.video
    tracks = ", ".join(track.lower() for track in video.tracks)
    yield "container", " · ".join(filter(None, (video.container or "unknown", tracks)))
    yield "codec", " · ".join(filter(None, (video.codec or "none", video.codec_profile, _pixels(video))))
    if video.width and video.height:
        yield "picture", _picture(video)
    yield from _length(video)
    if answer.cost:
        yield "cost", f"{answer.model}: {_cost(answer.cost)}"


def _pixels(video: ProbeFacts) -> str:
    depth = f"{video.bit_depth} bit" if video.bit_depth else None
    return " ".join(filter(None, (video.pixel_format, depth, video.hdr)))


def _picture(video: ProbeFacts) -> str:
    shape = f"{video.width} x {video.height}"
    pixels = None if video.pixel_aspect == 1 else f"pixels {video.sample_aspect_ratio}"
    turned = f"stored turned by {video.rotation_degrees}°" if video.rotation_degrees else None
    scan = video.scan.lower() if video.scan else None
    return " · ".join(filter(None, (shape, pixels, turned, scan)))


def _length(video: ProbeFacts) -> Iterator[tuple[str, str]]:
    header, walk = video.header, video.walk
    frames = f"{header.num_frames} frames" if header.num_frames else None
    seconds = f"{header.duration_seconds:.2f} s" if header.duration_seconds else None
    rate = f"{header.fps:.5g} a second" if header.fps else None
    yield "header", " · ".join(filter(None, (frames, seconds, rate))) or "says nothing of its length"
    if not walk:
        return
    until = "" if walk.complete else " until the limit"
    rate = f" · {walk.fps:.5g} a second" if walk.fps else ""
    yield "counted", f"{walk.num_frames} frames · {walk.duration_seconds:.2f} s{rate} · {walk.rate} rate{until}"
    if walk.keyframes:
        keys = walk.keyframes
        apart = f"at most {keys.longest_seconds:.2f} s ({keys.longest_frames} frames) apart"
        yield "I pictures", f"{keys.count} · {apart}, {keys.mean_seconds:.2f} s on average"


def _cost(cost: Cost) -> str:
    decode = _about(cost.decode_milliseconds)
    encode = _about(cost.encode_milliseconds)
    source = "" if cost.basis == "walk" else ", if the header is right"
    return f"{cost.frames_decoded} frames to decode{decode}, {cost.frames_encoded} to encode{encode}{source}"


def _about(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f" (about {milliseconds:.0f} ms)" if milliseconds < 10_000 else f" (about {milliseconds / 1e3:.0f} s)"

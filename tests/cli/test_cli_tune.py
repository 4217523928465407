"""`fusedmlp tune` and the tuned table, as processes: where it is written, what is refused, what dispatch does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from test_cli import SPEC, fails, kernels_for, run, succeeds

QUICK = ("--repeats", "1", "--min-time", "0")


def tune(table: Path, *arguments: str) -> str:
    return succeeds("tune", SPEC, *QUICK, *arguments, FUSEDMLP_TUNED=str(table))


def measurements(table: Path) -> list[dict[str, Any]]:
    document = json.loads(table.read_text())
    assert document["schema"] == "fusedmlp-tuned-1"
    return document["measurements"]


def explain(table: Path | str, tokens: int, **environment: str) -> dict[str, Any]:
    text = succeeds(
        "explain", SPEC, "--tokens", str(tokens), "--json", "-", FUSEDMLP_TUNED=str(table), **environment
    )
    document = json.loads(text)
    return {**document["results"][0], "tuned": document["tuned"]}


def chosen(explanation: dict[str, Any]) -> dict[str, Any]:
    [entry] = [entry for entry in explanation["entries"] if entry["chosen"]]
    return entry


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "tuned.json"


# ---- writing ----------------------------------------------------------------------------------------------


def test_writes_what_it_measured(table: Path) -> None:
    text = tune(table, "--tokens", "1,6,5", "--threads", "1")
    assert f"2 measurements written to {table}" in text  # 5 and 6 share a bucket
    rows = measurements(table)
    assert [(row["spec"], row["bucket"], row["tokens"], row["threads"]) for row in rows] == [
        (SPEC, 1, 1, 1),
        (SPEC, 8, 6, 1),
    ]
    for row in rows:
        assert set(row["us"]) == set(kernels_for(SPEC)) and all(us > 0 for us in row["us"].values())
    assert sorted(os.listdir(table.parent)) == ["tuned.json", "tuned.json.lock"]


def test_keeps_what_was_there_and_replaces_the_same(table: Path) -> None:
    tune(table, "--tokens", "1,2")
    before = measurements(table)
    tune(table, "--tokens", "2,4")
    after = measurements(table)
    assert [row["bucket"] for row in after] == [1, 2, 4]
    assert after[0] == before[0] and after[1]["us"] != before[1]["us"]


def test_dry_run_writes_nothing(table: Path) -> None:
    assert "nothing written" in tune(table, "--tokens", "1", "--dry-run")
    assert not os.listdir(table.parent)


def test_json_report(table: Path) -> None:
    report = json.loads(tune(table, "--tokens", "3", "--json", "-"))
    assert report["written"] == str(table)
    [result] = report["results"]
    assert (result["spec"], result["tokens"], result["bucket"]) == (SPEC, 3, 4)
    medians = {entry["name"]: entry["median_us"] for entry in result["entries"] if "skipped" not in entry}
    assert sorted(medians) == sorted(kernels_for(SPEC))
    assert result["fastest"] == min(medians, key=medians.get)
    assert measurements(table)[0]["us"][result["fastest"]] == pytest.approx(
        medians[result["fastest"]], abs=1e-4
    )


def test_dtypes_and_unpacked_are_their_own(table: Path) -> None:
    tune(table, "--tokens", "1", "--dtype", "fp32,bf16")
    tune(table, "--tokens", "1", "--no-pack")
    assert [(row["spec"], row["packed"]) for row in measurements(table)] == [
        (SPEC, False),
        (SPEC, True),
        (SPEC + ",bf16", True),
    ]


def test_default_places(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FUSEDMLP_", "XDG_"))}
    command = [os.environ["FUSEDMLP_CLI"], "tune", SPEC, "--tokens", "1", *QUICK]

    def written(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**clean, **environment}, capture_output=True, text=True, check=False
        )

    assert written(HOME=str(tmp_path / "house")).returncode == 0
    assert len(measurements(tmp_path / "house" / ".cache" / "fusedmlp" / "tuned.json")) == 1
    assert written(HOME=str(tmp_path / "house"), XDG_CACHE_HOME=str(tmp_path / "cache")).returncode == 0
    assert len(measurements(tmp_path / "cache" / "fusedmlp" / "tuned.json")) == 1
    del clean["HOME"]
    homeless = written()
    assert (homeless.returncode, homeless.stdout) == (2, "")
    assert "neither FUSEDMLP_TUNED nor XDG_CACHE_HOME nor HOME" in homeless.stderr


def test_nowhere_to_write_is_heard_of_before_measuring(tmp_path: Path) -> None:
    arguments = ["tune", "gelu:4096x16384", "--tokens", "1024"]  # would take minutes
    fails(arguments, "FUSEDMLP_TUNED", "off", FUSEDMLP_TUNED="off")
    fails(arguments, "FUSEDMLP_TUNED", "off", FUSEDMLP_TUNED="")
    fails(arguments, "cannot write", str(tmp_path), "directory", FUSEDMLP_TUNED=str(tmp_path))
    fails(arguments, "cannot write", "/proc/fusedmlp", FUSEDMLP_TUNED="/proc/fusedmlp/tuned.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_cache(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    fails(["tune", SPEC], "cannot write", "denied", FUSEDMLP_TUNED=str(tmp_path / "tuned.json"))
    succeeds("explain", SPEC, FUSEDMLP_TUNED=str(tmp_path / "tuned.json"))


def test_concurrent_runs_keep_each_others_measurements(table: Path) -> None:
    command = [os.environ["FUSEDMLP_CLI"], "tune", SPEC, *QUICK, "--threads", "1", "--tokens"]
    environment = {**os.environ, "FUSEDMLP_TUNED": str(table)}
    buckets = [1, 2, 4, 8, 16, 32]
    runs = [
        subprocess.Popen([*command, str(tokens)], env=environment, stdout=subprocess.DEVNULL)
        for tokens in buckets
    ]
    assert [process.wait(timeout=120) for process in runs] == [0] * len(runs)
    assert [row["bucket"] for row in measurements(table)] == buckets


# ---- reading ----------------------------------------------------------------------------------------------


def test_dispatch_follows_the_table(table: Path) -> None:
    tune(table, "--tokens", "6")
    [row] = measurements(table)
    row["us"] = {name: 50.0 if name == "reference" else 90.5 for name in row["us"]}
    row["date"] = "2026-01-31T12:00:00Z"
    table.write_text(json.dumps({"schema": "fusedmlp-tuned-1", "measurements": [row]}))

    exact = chosen(explain(table, 6))
    assert (exact["name"], exact["basis"], exact["predicted_us"]) == (
        "reference",
        "measured",
        pytest.approx(50.0),
    )
    assert exact["reason"] == "tuned: measured 50.0 us on 2026-01-31"
    near = chosen(explain(table, 7))
    assert (near["name"], near["basis"]) == ("reference", "modelled")
    assert near["reason"] == "tuned: measured 50.0 us at 6 tokens on 2026-01-31"
    outside = chosen(explain(table, 9))
    assert outside["basis"] == "modelled" and "tuned" not in outside["reason"]

    other = next(name for name in row["us"])
    assert chosen(explain(table, 6, FUSEDMLP_KERNEL=other))["name"] == other
    bench = succeeds("bench", SPEC, "--tokens", "6", "--json", "-", *QUICK, FUSEDMLP_TUNED=str(table))
    assert chosen(json.loads(bench)["results"][0])["name"] == "reference"


@pytest.mark.parametrize(
    "change",
    [{"device": "Another CPU"}, {"isa": "sve"}, {"threads": 77}, {"version": "0.0.1"}, {"packed": False}],
)
def test_measurements_of_others_are_not_used(table: Path, change: dict[str, Any]) -> None:
    tune(table, "--tokens", "6")
    [row] = measurements(table)
    row["us"] = {"reference": 1e-3}
    table.write_text(json.dumps({"schema": "fusedmlp-tuned-1", "measurements": [row]}))
    assert chosen(explain(table, 6))["name"] == "reference"
    table.write_text(json.dumps({"schema": "fusedmlp-tuned-1", "measurements": [{**row, **change}]}))
    explanation = explain(table, 6)
    assert chosen(explanation)["name"] != "reference" and "tuned" not in chosen(explanation)["reason"]
    if not {"threads", "packed"} & set(change):
        assert "none of this device" in explanation["tuned"]


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "not used: not JSON"),
        ('{"schema": "fusedmlp-tuned-1", "measurements": [', "not used: not JSON"),
        ('{"schema": "fusedmlp-tuned-2", "measurements": []}', 'not used: schema "fusedmlp-tuned-2"'),
        ('{"measurements": []}', "not used: no tuned table"),
        ('{"schema": "fusedmlp-tuned-1", "measurements": [{}]}', "not used: measurement 1: device must be"),
        ("\x00\xff\x1b[31m", "not used: not JSON"),
        (None, "no such file"),
    ],
)
def test_damaged_tables_are_ignored_with_a_reason(table: Path, content: str | None, reason: str) -> None:
    if content is not None:
        table.write_text(content)
    for command in (["info"], ["explain", SPEC, "--tokens", "1"]):
        text = succeeds(*command, FUSEDMLP_TUNED=str(table))
        assert f"{table}: {reason}" in text
        assert "\x1b" not in text
    assert chosen(explain(table, 1))["basis"] == "modelled"


def test_huge_and_odd_files_are_ignored(table: Path, tmp_path: Path) -> None:
    with table.open("wb") as file:
        file.truncate(1 << 30)
    assert "bytes, at most" in explain(table, 1)["tuned"]
    assert "not a regular file" in explain(tmp_path, 1)["tuned"]
    assert "not a regular file" in explain("/dev/zero", 1)["tuned"]


def test_a_damaged_table_is_moved_aside_by_tune(table: Path) -> None:
    table.write_text("precious")
    text = tune(table, "--tokens", "1")
    assert f"moved to {table}.bad" in text
    assert Path(f"{table}.bad").read_text() == "precious"
    assert len(measurements(table)) == 1


def test_off_is_off(table: Path) -> None:
    tune(table, "--tokens", "1")
    for value in ("", "off"):
        assert explain(value, 1)["tuned"] == "off: FUSEDMLP_TUNED says so"
        assert run("info", FUSEDMLP_TUNED=value).stdout.count("off: FUSEDMLP_TUNED says so") == 1

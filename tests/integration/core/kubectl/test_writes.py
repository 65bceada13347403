"""Every verb that writes, on every kind, with both versions of kubectl: the outcome is one line for each object."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Cli
from tests.support.kubectl_samples import Sample, Samples

Tree = dict[str, Any]


def outcomes(text: str) -> dict[str, str]:
    """kubectl's "resource/name outcome" lines; a deletion names the object in quotes, after the resource."""
    found = dict(line.split(" ", 1) for line in text.splitlines() if "/" in line.split(" ")[0])
    deleted = re.findall(r'^(\S+) "(\S+)" (.*deleted.*)$', text, re.MULTILINE)
    return found | {f"{resource}/{name}": outcome.split(" from ")[0] for resource, name, outcome in deleted}


def every(samples: Samples, outcome: str) -> dict[str, str]:
    return {sample.reference: outcome for sample in samples}


def read(cli: Cli, samples: Samples) -> dict[str, Tree]:
    """All objects of the set by kind."""
    items = json.loads(cli("get", *samples.files, "-o", "json"))["items"]
    by_reference = {(item["apiVersion"], item["kind"], item["metadata"]["name"]): item for item in items}
    return {
        sample.kind: by_reference[sample.tree["apiVersion"], sample.tree["kind"], sample.name] for sample in samples
    }


def contains(found: Any, wanted: Any) -> bool:
    """Whether all that was written can be read: times and certificates' callers are the server's own."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(contains(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(contains, found, wanted))
    return bool(found == wanted)


def missing(cli: Cli, samples: Samples) -> bool:
    return not cli("get", *samples.files, "--ignore-not-found", "-o", "name").strip()


def test_create_once(cli: Cli, fresh: Samples) -> None:
    dry = cli("create", *fresh.files, "--dry-run=server")
    assert outcomes(dry) == every(fresh, "created (server dry run)")
    assert missing(cli, fresh), "a dry run stores nothing"
    assert outcomes(cli("create", *fresh.files)) == every(fresh, "created")
    found = read(cli, fresh)
    assert [sample.kind for sample in fresh if not contains(found[sample.kind], sample.tree)] == []
    said = cli.refused("create", *fresh.files)
    assert [sample.kind for sample in fresh if f"{sample.quoted} already exists" not in said] == []


def test_apply_twice(cli: Cli, fresh: Samples) -> None:
    dry = cli("apply", *fresh.files, "--dry-run=server")
    assert outcomes(dry) == every(fresh, "created (server dry run)")
    assert missing(cli, fresh), "a dry run stores nothing"
    assert outcomes(cli("apply", *fresh.files)) == every(fresh, "created")
    assert outcomes(cli("apply", *fresh.files)) == every(fresh, "unchanged")
    changed = {sample.kind: labelled(sample, "shelf", "top") for sample in fresh}
    place = fresh.written(fresh.place.with_suffix(".changed"), changed)
    assert outcomes(cli("apply", "-n", fresh.namespace, "-f", place)) == every(fresh, "configured")
    assert [kind for kind, tree in read(cli, fresh).items() if tree["metadata"]["labels"].get("shelf") != "top"] == []
    assert outcomes(cli("apply", *fresh.files)) == every(fresh, "configured")
    assert [kind for kind, tree in read(cli, fresh).items() if "shelf" in tree["metadata"]["labels"]] == []


def labelled(sample: Sample, label: str, value: str) -> Tree:
    tree = copy.deepcopy(sample.tree)
    tree["metadata"]["labels"][label] = value
    return tree


def test_apply_on_the_server(cli: Cli, fresh: Samples) -> None:
    for _ in "once", "again":
        applied = cli("apply", "--server-side", *fresh.files)
        assert outcomes(applied) == every(fresh, "serverside-applied")
    managers = json.loads(cli("get", *fresh.files, "-o", "json", *([] if cli.old else ["--show-managed-fields"])))
    for item in managers["items"]:
        owners = {(entry["manager"], entry["operation"]) for entry in item["metadata"]["managedFields"]}
        assert ("kubectl", "Apply") in owners, item["metadata"]
    versions = {kind: tree["metadata"]["resourceVersion"] for kind, tree in read(cli, fresh).items()}
    cli("apply", "--server-side", *fresh.files)
    assert {kind: tree["metadata"]["resourceVersion"] for kind, tree in read(cli, fresh).items()} == versions
    other = {sample.kind: labelled(sample, next(iter(sample.tree["metadata"]["labels"])), "other") for sample in fresh}
    place = fresh.written(fresh.place.with_suffix(".other"), other)
    said = cli.refused("apply", "--server-side", "--field-manager=other", "-n", fresh.namespace, "-f", place)
    assert said.count("conflict") >= len(other), "the label belongs to kubectl"
    forced = cli(
        "apply", "--server-side", "--field-manager=other", "--force-conflicts", "-n", fresh.namespace, "-f", place
    )
    assert outcomes(forced) == every(fresh, "serverside-applied")


def test_replace(cli: Cli, fresh: Samples) -> None:
    cli("create", *fresh.files)
    changed = {kind: replaceable(tree) for kind, tree in read(cli, fresh).items()}
    place = fresh.written(fresh.place.with_suffix(".replaced"), changed)
    assert outcomes(cli("replace", "-n", fresh.namespace, "-f", place)) == every(fresh, "replaced")
    assert [kind for kind, tree in read(cli, fresh).items() if tree["metadata"]["labels"].get("by") != "put"] == []
    said = cli.refused("replace", "-n", fresh.namespace, "-f", place)
    assert [sample.kind for sample in fresh if f"{sample.quoted}: the object has been modified" not in said] == []


def replaceable(tree: Tree) -> Tree:
    tree["metadata"].setdefault("labels", {})["by"] = "put"
    return tree


def test_label_and_annotate(cli: Cli, world: Samples) -> None:
    assert outcomes(cli("label", *world.files, "seen=yes")) == every(world, "labeled")
    assert outcomes(cli("annotate", *world.files, "note=first")) == every(world, "annotated")
    assert outcomes(cli("annotate", *world.files, "note=second", "--overwrite")) == every(world, "annotated")
    noted = {kind: tree["metadata"] for kind, tree in read(cli, world).items()}
    assert {(meta["labels"]["seen"], meta["annotations"]["note"]) for meta in noted.values()} == {("yes", "second")}
    assert len(outcomes(cli("label", *world.files, "seen-"))) == len(noted)
    assert [kind for kind, tree in read(cli, world).items() if "seen" in tree["metadata"]["labels"]] == []


PATCHES: dict[str, Any] = {
    "merge": {"metadata": {"annotations": {"patched-by": "merge"}}},
    "strategic": {"metadata": {"annotations": {"patched-by": "strategic"}}},
    "json": [{"op": "add", "path": "/metadata/annotations/patched-by", "value": "json"}],
}


@pytest.mark.parametrize("how", PATCHES)
def test_patch(cli: Cli, world: Samples, how: str) -> None:
    said = cli("patch", *world.files, f"--type={how}", "-p", json.dumps(PATCHES[how]))
    assert outcomes(said) == every(world, "patched")
    notes = {kind: tree["metadata"]["annotations"]["patched-by"] for kind, tree in read(cli, world).items()}
    assert notes == dict.fromkeys(notes, how)


def test_edit(cli: Cli, world: Samples, tmp_path: Path) -> None:
    cli("annotate", *world.files, "edited=before", "--overwrite")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/edited: before/edited: after/" "$1"\n')
    editor.chmod(0o755)
    edited = cli("edit", *world.files, KUBE_EDITOR=str(editor))
    assert outcomes(edited) == every(world, "edited")
    notes = {kind: tree["metadata"]["annotations"]["edited"] for kind, tree in read(cli, world).items()}
    assert notes == dict.fromkeys(notes, "after")


def test_diff(cli: Cli, fresh: Samples) -> None:
    cli("apply", *fresh.files)
    same = cli.run("diff", *fresh.files)
    assert (same.code, same.out) == (0, ""), str(same)
    changed = {sample.kind: labelled(sample, "shelf", sample.kind) for sample in fresh}
    place = fresh.written(fresh.place.with_suffix(".diff"), changed)
    differs = cli.run("diff", "-n", fresh.namespace, "-f", place)
    assert differs.code == 1, str(differs)
    assert [kind for kind in changed if not re.search(rf"^\+\s+shelf: {kind}$", differs.out, re.MULTILINE)] == []
    assert [kind for kind, tree in read(cli, fresh).items() if "shelf" in tree["metadata"]["labels"]] == []


def test_delete(cli: Cli, fresh: Samples) -> None:
    cli("create", *fresh.files)
    dry = cli("delete", *fresh.files, "--dry-run=server")
    assert outcomes(dry) == every(fresh, "deleted (server dry run)")
    assert len(read(cli, fresh)) == len(fresh.all), "a dry run deletes nothing"
    assert outcomes(cli("delete", *fresh.files, "--wait", "--timeout=30s")) == every(fresh, "deleted")
    assert missing(cli, fresh)
    said = cli.refused("delete", *fresh.files)
    assert [sample.kind for sample in fresh if f"{sample.quoted} not found" not in said] == []

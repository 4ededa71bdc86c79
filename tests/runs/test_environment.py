"""Where a run ran."""

import subprocess

import torch

from blocks.runs.environment import environment


def git(folder, *command):
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)


def test_it_names_versions_hardware_and_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = environment(torch.device("cpu"), 3)
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (found["device"], found["world_size"], found["git"]) == ("cpu", 3, None)
    assert found["hardware"]["cores"] >= 1
    assert found["date"].endswith("+00:00")


def test_it_names_the_commit_of_the_folder_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        git(tmp_path, *command)
    first = environment(torch.device("cpu"), 1)["git"]
    assert len(first["commit"]) == 40
    assert first["changed"] is False
    (tmp_path / "a.py").write_text("2")
    assert environment(torch.device("cpu"), 1)["git"] == {"commit": first["commit"], "changed": True}

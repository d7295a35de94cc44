"""The log of a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from cathode.run.config import load_settings
from cathode.run.folder import RunFolder
from cathode.support.errors import UserError


@dataclass(frozen=True)
class Settings:
    seed: int = 1


def test_messages_of_the_named_packages_are_kept(tmp_path):
    one, two = logging.getLogger("cathode.one"), logging.getLogger("cathode_test_other.two")
    folder = RunFolder(tmp_path / "run")
    with folder.open(Settings(), loggers=("cathode", "cathode_test_other")):
        one.info("first")
        two.info("second")
        two.debug("third")
    two.warning("after the run")
    text = (folder / "log.txt").read_text()
    assert "cathode.one: first" in text
    assert "cathode_test_other.two: second" in text
    assert "third" not in text
    assert "after" not in text
    assert logging.getLogger("cathode_test_other").level == logging.NOTSET
    with folder.open(Settings()):
        two.warning("not of this package")
    assert "not of this" not in (folder / "log.txt").read_text()


def test_yaml_that_does_not_parse_is_one_line(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: [1,\n  : ]\n")
    with pytest.raises(UserError, match="not valid YAML") as caught:
        load_settings(Settings, tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)

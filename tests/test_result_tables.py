"""Tables of the documentation say what their JSON says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("result_tables", ROOT / "tools" / "result_tables.py")
result_tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(result_tables)


@pytest.mark.parametrize("page", sorted({page for page, _, _ in result_tables.TABLES.values()}))
def test_tables_are_up_to_date(page):
    """If this fails: python tools/result_tables.py"""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert result_tables.filled(page, text) == text


def test_every_table_stands_in_its_page():
    for name, (page, _, _) in result_tables.TABLES.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count(f"<!-- table {name} -->") == 1, name
        assert len(re.findall("<!-- table ", text)) == text.count("<!-- end of table -->"), page


def test_a_number_that_was_changed_by_hand_is_found():
    page = "docs/performance.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    start = text.index("<!-- table embed_xeon_amx -->")
    changed = text[:start] + re.sub(r"\d+%", "1%", text[start:], count=1)
    assert changed != text and result_tables.filled(page, changed) == text

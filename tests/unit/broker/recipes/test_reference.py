"""docs/reference/recipes.md is what the recipes say."""

from __future__ import annotations

from harness import recipe_reference


def test_the_reference_of_recipes_is_fresh() -> None:
    assert recipe_reference.FILE.read_text(encoding="utf-8") == recipe_reference.markdown(), "run: make docs"

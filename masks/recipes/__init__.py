"""The recipes for pseudo masks, by the names that ``Cluster.recipe`` gives them.

A recipe is one file of this folder and one line here (docs/architecture.md, "Adding a recipe").
"""

from __future__ import annotations

from masks.recipes.clusters import ClusterRecipe
from masks.recipes.objects import ObjectRecipe
from masks.recipes.recipe import Recipe
from util.errors import UserError

RECIPES: dict[str, type[Recipe]] = {"global": ClusterRecipe, "objects": ObjectRecipe}


def find_recipe(name: str) -> type[Recipe]:
    """The recipe called ``name``; raises ``UserError`` for an unknown one."""
    if name not in RECIPES:
        raise UserError(f"Cluster.recipe={name}: unknown recipe; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]

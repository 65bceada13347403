"""Rules of ResourceQuota beyond its schema."""

from __future__ import annotations

from services.apimachinery.errors import Cause
from services.apimachinery.schema import causes as say
from services.apimachinery.schema.hooks import KindHooks
from services.apimachinery.schema.schema import Tree
from services.core.model import renderers


class ResourceQuotaHooks(KindHooks):
    """Values of a scope requirement fit its operator."""

    renderers = {"quota-usage": renderers.quota_usage}  # noqa: RUF012

    def validate(self, new: Tree, old: Tree | None) -> list[Cause]:
        """In and NotIn need values, Exists and DoesNotExist have none."""
        found: list[Cause] = []
        requirements = new.get("spec", {}).get("scopeSelector", {}).get("matchExpressions", [])
        for at, requirement in enumerate(requirements):
            path = f"spec.scopeSelector.matchExpressions[{at}].values"
            operator, values = requirement.get("operator"), requirement.get("values", [])
            if operator in ("In", "NotIn") and not values:
                found.append(say.required(path, f"operator {operator} compares with values"))
            elif operator in ("Exists", "DoesNotExist") and values:
                found.append(say.forbidden(path, f"operator {operator} takes no values"))
        return found

"""Functions that build JSON schemas."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(description: str, longest: int | None = None, **more: Any) -> Schema:
    """Return the schema of a text."""
    bound = {} if longest is None else {"minLength": 1, "maxLength": longest}
    return {"type": "string", "description": description, **bound, **more}


def number(description: str, **more: Any) -> Schema:
    """Return the schema of a number that is not negative."""
    return {"type": "number", "minimum": 0, "description": description, **more}


def count(description: str, **more: Any) -> Schema:
    """Return the schema of an integer that is not negative."""
    return {"type": "integer", "minimum": 0, "description": description, **more}


def maybe(schema: Schema) -> Schema:
    """Return a schema that takes null as well."""
    return {**schema, "type": [schema["type"], "null"]}


def flag(description: str) -> Schema:
    """Return the schema of true or false."""
    return {"type": "boolean", "description": description}


def listed(items: Schema | str, description: str = "") -> Schema:
    """Return the schema of a list; a text is the name of a schema."""
    return {
        "type": "array",
        "items": reference(items) if isinstance(items, str) else items,
        **({"description": description} if description else {}),
    }


def reference(name: str) -> Schema:
    """Return a reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: dict[str, Schema], optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """Return the schema of an object without other properties."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": required} if required else {}),
        **more,
    }


def given_with(member: str, *values: Any, needs: str = "", without: tuple[str, ...] = ()) -> Schema:
    """Return a condition of ``allOf``: with one of these values of a member, others are needed or refused."""
    then: Schema = {"properties": {name: {"not": {}} for name in without}}
    if needs:
        then["required"] = [needs]
    chosen = {"properties": {member: {"enum": list(values)}}, "required": [member]}
    return {"if": chosen, "then": then}


def page(rows: str, name: str) -> Schema:
    """Return the schema of a page of a list."""
    return record(
        {
            name: listed(rows, "The rows of the page, in the order that was asked for."),
            "total": count("Number of rows without the filter."),
            "matching": count("Number of rows that the filter selects."),
            "offset": count("Number of matching rows before the page."),
        }
    )

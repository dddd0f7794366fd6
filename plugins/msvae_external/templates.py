"""Templates of input files and of arguments: Jinja2 in a sandbox, where a name that is not there is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from msvae_external.failures import Failure

__all__ = ["NAME", "check", "is_plain", "rendered", "text_of"]

NAME = re.compile(r"[A-Za-z]\w*")
TEXT = re.compile(r"(?!-)[\w.+() /:-]{0,100}")  # of data: nothing that ends a line, quotes or substitutes
LONGEST = 1 << 30  # characters of a rendered file


def is_plain(value: object) -> bool:
    """Return whether a value of a study can stand in an input file: a number, or a text that ends no line or quote."""
    return not isinstance(value, str) or not re.search(r"[\"'`\0\n\r]", value)


def text_of(text: str, what: str) -> str:
    """Return a text that data brought, if it can do no harm in an input file; Failure otherwise."""
    if not TEXT.fullmatch(text):
        raise Failure(
            f"{what} is {text[:50]!r}: only letters, digits, spaces and . + - ( ) / : can be given to a program"
        )
    return text


@lru_cache(maxsize=256)
def _compiled(text: str) -> tuple[Template, frozenset[str]]:
    """Return a template, and the names that it asks for."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False,
        optimized=False,  # nothing is computed while a study is read, which may be a stranger's
    )  # fmt: skip
    namespace = environment.globals["namespace"]
    environment.globals = {"range": safe_range, "zip": zip, "enumerate": enumerate, "namespace": namespace}
    return environment.from_string(text), frozenset(find_undeclared_variables(environment.parse(text)))


def check(text: str) -> str | None:
    """Return why a text is no template, None if it is."""
    try:
        _compiled(text)
    except TemplateError as error:
        return _said(error)
    except (RecursionError, MemoryError, OverflowError) as error:
        return f"it is nested too deep ({type(error).__name__})"
    return None


def rendered(text: str, names: Mapping[str, Any], what: str) -> str:
    """Return a template with names put in; Failure where one is missing, or something else is reached for.

    >>> rendered("E = {{ modulus }} {% for n in shape %}[{{ n }}]{% endfor %}", {"modulus": 2.5, "shape": (4, 8)}, "it")
    'E = 2.5 [4][8]'
    """
    try:
        parts, size = [], 0
        template, asked = _compiled(text)
        for part in template.generate({name: names[name] for name in asked if name in names}):
            parts.append(part)
            size += len(part)
            if size > LONGEST:
                raise Failure(f"{what} is longer than {LONGEST} characters")
        return "".join(parts)
    except TemplateError as error:
        raise Failure(f"{what}: {_said(error)}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise Failure(f"{what}: {type(error).__name__}: {error}") from None


def _said(error: TemplateError) -> str:
    line = getattr(error, "lineno", None)
    return (f"line {line}: " if line else "") + " ".join(str(error).split())[:300]

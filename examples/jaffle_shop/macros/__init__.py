"""SQL macros of the jaffle shop."""

from __future__ import annotations

from sqlglot import exp
from sqlmesh import macro
from sqlmesh.core.macros import MacroEvaluator


@macro()
def cents_to_dollars(evaluator: MacroEvaluator, column: exp.Expression) -> exp.Expression:
    """Amount in dollars of a column that holds whole cents.

    Args:
        evaluator: SQLMesh passes it to every macro.
        column: The column, or an expression in its place.

    Returns:
        An expression of type ``DECIMAL(12, 2)``: sums of it have no rounding errors.
    """
    return exp.cast(
        exp.Div(this=exp.paren(column), expression=exp.Literal.number(100)), "DECIMAL(12, 2)"
    )

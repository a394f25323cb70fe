"""This room makes a tick: the plan, the decisions, the conditions that show them, the sensor.

Decisions are pure functions of facts. What reads facts lives in ``facts``, what repairs records in
``upkeep``.
"""

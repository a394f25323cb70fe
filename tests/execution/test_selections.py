"""What a person may write to select models for a restatement."""

from __future__ import annotations

import pytest

from dagster_sqlmesh_automation.assets.evaluation.selections import check_selections
from dagster_sqlmesh_automation.config.errors import SelectionRefused

REFUSED = {
    "a branch": ["git:main"],
    "an option of git's": ["git:--output=/tmp/x"],
    "in capitals and with spaces": [" Git : main"],
    "over two lines": ["git\n:main"],
    "with what it reads": ["+git:--output=/tmp/x"],
    "with what reads it": ["git:main+"],
    "all but": ["^git:main"],
    "all but, twice": ["^^git:main"],
    "both": ["shop.events & git:main"],
    "either": ["shop.events | git:main"],
    "in parentheses": ["((shop.events | (git:main)))"],
    "parentheses after it": ["git:(main)"],
    "out of SQLMesh's parentheses": ["shop.events) | (git:main"],
    "behind a name that is right": ["shop.events", "git:main"],
    "behind a tag": ["tag:git:main"],
    "with a star": ["git:*main"],
    "an option": ["--output=/tmp/x"],
    "an option with what it reads": ["+-x"],
    "all but an option": ["^-x"],
    "an option behind an operator": ["shop.events & -x"],
    "an option that is a tag": ["tag:--output=/tmp/x"],
    "an option behind a star": ["*--output"],
    "nothing": [""],
    "half a selection": ["(shop.events"],
    "two without an operator": ["shop.events git"],
    "a comment over two of them": ["shop.events) /*", "*/ | git:main"],
    "nested without end": ["(" * 5000],
    "negated without end": ["^" * 5000 + "shop.events"],
}

ACCEPTED = {
    "a name": ["shop.events"],
    "a name with a catalog, quoted": ['"warehouse"."shop"."events"'],
    "a pattern": ["shop.*"],
    "all": ["*"],
    "a tag": ["tag:finance"],
    "a pattern of tags": ["tag:fin*"],
    "several with operators": ["+shop.best+", "^tag:nightly & (shop.events | shop.totals)"],
    "a dash within a name": ["shop-eu.events"],
    "a model in a schema git": ["git.commits", "+github.events", "tag:git"],
    "a kind of node": ["resource_type:model"],
}


@pytest.mark.parametrize("selections", REFUSED.values(), ids=REFUSED)
def test_what_could_reach_a_command_is_refused(selections: list[str]) -> None:
    with pytest.raises(SelectionRefused, match="Accepted: names, patterns") as refused:
        check_selections(selections)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("selections", ACCEPTED.values(), ids=ACCEPTED)
def test_names_patterns_and_tags_pass(selections: list[str]) -> None:
    check_selections(selections)

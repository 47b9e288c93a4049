"""The configuration: what is taken, and what each refusal says."""

from __future__ import annotations

import inspect

import pytest
import yaml

from sciinv import conditionals, config, kernels, samplers
from sciinv.config import Config, Prior, block
from sciinv.errors import ConfigError, DataError


def minimal(**changes):
    problem = {
        "data": {"reader": "workflows/configs/tiny.py:read"},
        "prior": {"kind": "gaussian"},
        "sampler": {},
        "draws": 4,
    }
    return {"run": {"name": "a"}, "problems": {"p": problem | changes}}


def test_defaults_are_filled_in():
    made = Config.of_mapping(minimal())
    problem = made.problem("p")
    assert made.folder == "results/a"
    assert made.run.seed == 0
    assert made.run.gpus == 0
    assert problem.title == "p"
    assert problem.sampler.kind == "daps"
    assert problem.prior == Prior(kind="gaussian")


@pytest.mark.parametrize("name", ["ci", "main", "helsinki", "m87"])
def test_shipped_configuration_is_accepted(repo, name):
    assert Config.of_file(repo / f"workflows/configs/{name}.yaml").problems


def test_the_schema_knows_every_conditional_and_kernel(repo):
    schema = yaml.safe_load((repo / "workflows/schemas/config.schema.yaml").read_text())
    known = str(schema)
    for names in (conditionals.CONDITIONALS, kernels.KERNELS):
        assert not [name for name in names if f"'{name}'" not in known]


def test_blocks_cover_every_draw_of_every_item_once():
    problem = Config.of_mapping(minimal(draws=10, items=5, shards={"draws": 4, "items": 2}))
    cells = [
        (item, draw)
        for items, draws in problem.problem("p").blocks()
        for item in block(items)
        for draw in block(draws)
    ]
    assert sorted(cells) == [(i, d) for i in range(5) for d in range(10)]


def test_facts_do_not_depend_on_the_order_of_keys():
    one = Config.of_mapping(minimal(sampler={"levels": 9, "rho": 5}))
    two = Config.of_mapping(minimal(sampler={"rho": 5, "levels": 9}))
    assert repr(one.problem("p").facts("sampler")) == repr(two.problem("p").facts("sampler"))


@pytest.mark.parametrize("kind", sorted(samplers.SAMPLERS))
def test_settings_of_the_samplers_are_those_of_their_constructors(kind, repo):
    taken = set(inspect.signature(samplers.SAMPLERS[kind]).parameters) - {"prior"}
    assert set(config.SETTINGS[kind]) == taken
    schema = yaml.safe_load((repo / "workflows/schemas/config.schema.yaml").read_text())
    known = set(schema["$defs"]["problem"]["properties"]["sampler"]["properties"])
    assert taken <= known
    assert kind in schema["$defs"]["problem"]["properties"]["sampler"]["properties"]["kind"]["enum"]


def test_readers_of_the_registry_can_be_imported():
    from sciinv import readers

    for name in readers.READERS:
        assert callable(readers.find(name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drws": 3}, ["drws", "did you mean 'draws'?", "display"]),
        ({"draws": 1}, ["minimum 2", "problems.p.draws"]),
        ({"draws": "1e3"}, ["'1e3'", "write 1.0e-3"]),
        ({"sampler": {"kind": "dap"}}, ["did you mean 'daps'?", "langevin"]),
        ({"sampler": {"kind": "dps", "levels": 3}}, ["dps has no such setting", "zeta"]),
        ({"prior": {"sd": 1.0}}, ["kind", "problems.p.prior"]),
        ({"prior": 3}, ["a text or keys with values", "problems.p.prior"]),
        ({"data": {"reader": "uvfits"}}, ["reader uvfits without a path"]),
        ({"domain": ["ring", "ring"]}, ["problems.p.domain", "uniqueItems"]),
    ],
)
def test_refusal_says_what_where_expected_got_and_remedy(change, words):
    with pytest.raises(ConfigError) as caught:
        Config.of_mapping(minimal(**change), where="my.yaml")
    said = str(caught.value)
    for word in words:
        assert word in said
    for row in ("where:", "expected:", "got:", "remedy:"):
        assert row in said


def test_missing_file_is_named_with_the_nearest_there_is(tmp_path):
    (tmp_path / "prior.safetensors").touch()
    with pytest.raises(DataError, match=r"did you mean .*prior\.safetensors"):
        Config.of_mapping(minimal(prior=str(tmp_path / "priro.safetensors")))


def test_relative_paths_are_taken_from_the_working_directory_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").touch()
    problem = Config.of_mapping(minimal(prior="mine.safetensors")).problem("p")
    assert problem.inputs("prior") == ["mine.safetensors"]
    assert problem.inputs("data")[0].endswith("workflows/configs/tiny.py")


def test_repeated_key_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("run: {name: a}\nrun: {name: b}\n")
    with pytest.raises(ConfigError, match="given twice") as caught:
        Config.of_file(path)
    assert "lines 1 and 2" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("run: [1", "no valid YAML"), ("", "an empty file"), ("- a\n- b\n", "list")],
)
def test_file_that_is_no_configuration_is_refused(tmp_path, text, word):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        Config.of_file(path)


def test_missing_configuration_names_the_nearest(tmp_path):
    (tmp_path / "main.yaml").touch()
    with pytest.raises(ConfigError, match=r"did you mean .*main\.yaml"):
        Config.of_file(tmp_path / "mian.yaml")


def test_quantities_and_summaries_of_the_schema_are_those_that_exist(repo):
    from sciinv import uncertainty
    from sciinv.quantities import measure as domain
    from sciinv.steps.export_formats import WRITERS

    schema = yaml.safe_load((repo / "workflows/schemas/config.schema.yaml").read_text())
    problem = schema["$defs"]["problem"]["properties"]
    assert set(problem["domain"]["items"]["enum"]) == set(domain.QUANTITIES)
    assert problem["export"]["items"]["enum"] == list(config.SUFFIXES) == list(WRITERS)
    assert set(config.SUMMARY) <= set(inspect.signature(uncertainty.summarize).parameters)
    assert set(config.SUMMARY) <= set(problem["display"]["properties"])

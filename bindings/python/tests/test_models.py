import pickle

import fleeti
import pytest
from fleeti import models as m

FLEET = {"name": "demo", "devices": 3, "revoked": 0}


def test_a_value_is_what_was_read() -> None:
    fleet = m.Fleet.from_json(FLEET)
    assert (fleet.name, fleet.devices, fleet.to_json()) == ("demo", 3, FLEET)
    assert fleet == m.Fleet(name="demo", devices=3, revoked=0) != fleet.replace(devices=4)
    assert repr(fleet) == "Fleet(name='demo', devices=3, revoked=0)"
    assert pickle.loads(pickle.dumps(fleet)) == fleet


def test_a_value_is_immutable_and_complete() -> None:
    fleet = m.Fleet.from_json(FLEET)
    with pytest.raises(AttributeError, match="immutable"):
        fleet.devices = 4  # type: ignore[misc]
    with pytest.raises(TypeError, match="'revoked'"):
        m.Fleet(name="demo", devices=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'color'"):
        fleet.replace(color="red")


@pytest.mark.parametrize("wrong", [None, [], "x", {}, {**FLEET, "devices": "3"}, {**FLEET, "devices": True}, {**FLEET, "name": 1}])
def test_another_form_is_an_error_that_says_what_is_wrong(wrong: object) -> None:
    with pytest.raises(fleeti.AnswerError, match="documented form") as caught:
        m.Fleet.from_json(wrong)
    assert caught.value.hint is not None and "version" in caught.value.hint


def test_a_later_server_may_add_fields() -> None:
    assert m.Fleet.from_json({**FLEET, "color": "red"}).to_json() == FLEET


def test_a_list_that_is_absent_stays_absent_and_an_empty_one_stays_empty() -> None:
    made = m.CreateAccount(name="a", kind="service")
    assert "grants" not in made.to_json()
    assert made.replace(grants=[]).to_json()["grants"] == []


def test_a_word_of_python_is_written_without_its_underscore() -> None:
    assert m.FirewallRule(name="web", ports=["443"], from_=["10.0.0.0/8"]).to_json() == {"name": "web", "ports": ["443"], "from": ["10.0.0.0/8"]}


def test_a_variant_is_chosen_by_its_tag() -> None:
    wave = m.RolloutWave.from_json({"size": {"type": "percent", "percent": 10}})
    assert wave.size == m.RolloutWaveSizePercent(percent=10)
    with pytest.raises(fleeti.AnswerError, match="RolloutWaveSize"):
        m.RolloutWave.from_json({"size": {"type": "everybody"}})


def test_a_representation_shows_no_secret() -> None:
    for secret in (m.CreatedWorker(name="w", token="hidden"), m.SetSecret(value="hidden"), m.ShownRecoveryKey(key="hidden")):
        assert "hidden" not in repr(secret)

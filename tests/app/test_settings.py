import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import requests
from serving import Server

from clickseg.modelfile import read_manifest
from clickseg_app.settings import Settings, SettingsError, read_settings


def test_without_conf_all_three_models_are_served():
    assert read_settings({}) == Settings()
    assert Settings().models == ("initial", "click", "edit")


def test_every_key_of_the_settings_can_be_read(tmp_path):
    values = {"models": "edit, click", "device": "cpu", "cache_mb": "7"}
    values |= {"pretrained_path": str(tmp_path), "replay_path": str(tmp_path)}
    values |= {"update_path": __file__, "registration": "auto", "fetch_ahead": "3"}
    switches = [field.name for field in fields(Settings) if field.name not in values]
    settings = read_settings(values | dict.fromkeys(switches, "False"))
    assert settings.models == ("click", "edit")
    assert (settings.cache_mb, settings.fetch_ahead) == (7, 3)
    assert settings.registration == "auto"
    assert settings.pretrained_path == settings.replay_path == tmp_path
    assert settings.update_path == Path(__file__)
    assert not any(getattr(settings, name) for name in switches)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("models", "deepedit", "wanted is all or a list like initial,click,edit"),
        ("models", "", "wanted is all"),
        ("preload", "maybe", "preload is 'maybe'; wanted is true or false"),
        ("cache_mb", "-1", "whole number"),
        ("cache_mb", "1.5", "whole number"),
        ("fetch_ahead", "all", "whole number"),
        ("device", "tpu", "this machine has cpu"),
        ("registration", "on", "registration is 'on'; wanted is one of auto, header, off"),
        ("pretrained_path", "/nowhere", "wanted is a folder"),
        ("sam2", "false", "no setting sam2; there are: models, preload"),
    ],
)
def test_a_wrong_setting_is_told_with_the_right_ones(key, value, text):
    with pytest.raises(SettingsError, match=text):
        read_settings({key: value})


@pytest.mark.parametrize("value", ["true", "True", "1", "yes", " TRUE "])
def test_a_switch_is_read_as_monai_label_does(value):
    assert read_settings({"skip_strategies": value}).skip_strategies is True


def test_all_is_every_model():
    assert read_settings({"models": "all"}).models == Settings().models


def test_weights_of_the_app_folder_are_served_if_wanted(tmp_path, weights, studies):
    folder = tmp_path / "server"
    shutil.copytree(weights, folder / "vs_clickseg" / "model")
    server = Server(folder, studies, ("use_pretrained_model", "false"), ("scribbles", "false"))
    try:
        server.wait()
        models = requests.get(f"{server.url}/info/", timeout=10).json()["models"]
        assert list(models) == ["initial", "click"]
        answer = requests.post(
            f"{server.url}/infer/initial?image=ras&output=json", data={"params": "{}"}, timeout=60
        ).json()
        assert answer["models"]["initial"] == read_manifest(weights, "initial").short_hash
    finally:
        server.stop()

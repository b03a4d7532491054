"""System checks."""

from __future__ import annotations

import pytest


def ids(found):
    return [each.id for each in found]


@pytest.fixture
def of(site, monkeypatch):
    """The checks of the settings, with these."""
    from django.conf import settings
    from django.test import override_settings

    from tenant_q.django import checks

    def run(tasks=None, database=None, **more):
        with monkeypatch.context() as patch, override_settings(TENANT_Q=tasks or {}, **more):
            for name, value in (database or {}).items():
                patch.setitem(settings.DATABASES["default"], name, value)
            return checks.of_settings()

    return run


def test_all_is_well(of, manage):
    assert of() == []
    assert "no issues" in manage("check", "--database", "default")


def test_words(of):
    [found] = of({"DATABSE": "default"})
    assert found.id == "tenant_q.E001" and "'DATABASE'" in found.hint
    assert ids(of("nonsense")) == ["tenant_q.E001"]
    assert ids(of({"DATABASE": "nowhere"})) == ["tenant_q.E002"]
    assert ids(of({"CONTROL": "nowhere"})) == ["tenant_q.E002"]
    assert ids(of({"TENANT": "public"})) == ["tenant_q.E003"]


def test_poolers(of):
    pooled = {"DISABLE_SERVER_SIDE_CURSORS": True}
    [found] = of(database=pooled)
    assert found.id == "tenant_q.W001" and "CONTROL" in found.hint
    assert of({"CONTROL": "elsewhere"}, pooled) == []
    assert ids(of({"CONTROL": "elsewhere"}, pooled, TENANT_LIMIT_SET_CALLS=True)) == ["tenant_q.W002"]
    # A site of one schema has to name it.
    assert ids(of({"DATABASE": "elsewhere"})) == ["tenant_q.W003"]


def test_in_shared_apps_alone(of):
    from django.conf import settings

    apps = [app for app in settings.TENANT_APPS if app != "tenant_q.django"]
    found = of(SHARED_APPS=[*settings.SHARED_APPS, "tenant_q.django"], TENANT_APPS=apps)
    assert ids(found) == ["tenant_q.W004"]


def test_the_backends_words(site):
    from django.test import override_settings

    from tenant_q.django import Backend

    assert Backend("x", {"OPTIONS": {"max_attempts": 1}}).check() == []
    assert ids(Backend("x", {"OPTIONS": {"max_atempts": 1}}).check()) == ["tenant_q.E006"]
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        assert ids(Backend("x", {}).check()) == ["tenant_q.E004"]


def test_another_protocol(site, app, monkeypatch):
    from tenant_q import app as core
    from tenant_q.django import checks

    monkeypatch.setattr(core, "PROTOCOL", 99)
    found = checks.of_database(databases=["default"])
    assert ids(found) == ["tenant_q.E011"] and "ALTER EXTENSION" in found[0].hint
    assert checks.of_database(databases=["elsewhere"]) == [] and checks.of_database() == []

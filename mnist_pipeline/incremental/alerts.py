"""Alerts: a run that failed, or a check that failed in one that did not, sent to where people are.

An address is a URL. `https://...` is a webhook that takes `{"text": ...}`, as those of Slack,
Mattermost and Google Chat do; `smtps://user:password@host:port?from=...&to=...` is a mail server,
and `smtp://` one with STARTTLS where it has a user.
"""

import json
import smtplib
import ssl
import urllib.request
from collections.abc import Collection, Sequence
from email.message import EmailMessage
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import dagster as dg

from . import _dagster, runs

if TYPE_CHECKING:
    from .pipeline import Pipeline

TICK_SECONDS = 30
_SECONDS = 10.0


def checked_address(address: str) -> str:
    """Return an address, or raise ValueError if alerts cannot be sent to such a one."""
    url = urlsplit(address)
    if url.scheme not in {"http", "https", "smtp", "smtps"} or not url.hostname:
        raise ValueError("https://... or smtps://user:password@host:port?from=...&to=... is needed")
    url.port  # noqa: B018 - raises where it is not a port
    if url.scheme.startswith("smtp") and {"from", "to"} - _query(address).keys():
        raise ValueError("a mail server needs ?from=...&to=... at its end")
    return address


def send(addresses: Collection[str], subject: str, text: str) -> None:
    """Send an alert to each address; raise OSError, at the end, where a server did not take it."""
    failed = []
    for address in addresses:
        try:
            (_mail if address.startswith("smtp") else _post)(address, subject, text)
        except (OSError, HTTPException) as error:
            # the address may hold a secret
            failed.append(f"no alert was sent to {urlsplit(address).hostname}: {error}")
    if failed:
        raise OSError("; ".join(failed))


def _post(address: str, subject: str, text: str) -> None:
    body = json.dumps({"text": f"{subject}\n{text}"}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_SECONDS):
        pass


def _query(address: str) -> dict[str, list[str]]:
    # + is part of mail addresses, and a blank is not
    return parse_qs(urlsplit(address).query.replace("+", "%2B"))


def _mail(address: str, subject: str, text: str) -> None:
    url = urlsplit(address)
    asked = _query(address)
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, asked["from"][0], asked["to"]
    message.set_content(text)
    context = ssl.create_default_context()
    host, port = url.hostname or "", url.port or 0
    with (
        smtplib.SMTP_SSL(host, port, timeout=_SECONDS, context=context)
        if url.scheme == "smtps"
        else smtplib.SMTP(host, port, timeout=_SECONDS)
    ) as server:
        if url.username:
            if url.scheme == "smtp":
                server.starttls(context=context)  # a password is never sent in the clear
            server.login(unquote(url.username), unquote(url.password or ""))
        server.send_message(message)


def sensors(pipeline: "Pipeline") -> Sequence[dg.SensorDefinition]:
    """Define the sensors that send alerts; none without an address."""
    if not pipeline.alerts:
        return []

    @dg.run_failure_sensor(
        name="alert_on_failure",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends an alert when a run failed, with the reason.",
    )
    def on_failure(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        why = runs.why_failed(context.instance, run.run_id)
        chosen = run.job_name.startswith("__")
        what = "a run of chosen assets" if chosen else f"the job {run.job_name}"
        subject = f"{pipeline.name}: {what} failed"
        send(pipeline.alerts, subject, f"{why}\nRun {run.run_id}")

    @dg.run_status_sensor(
        dg.DagsterRunStatus.SUCCESS,
        name="alert_on_checks",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends an alert when a check failed, such as that of a candidate.",
    )
    def on_checks(context: dg.RunStatusSensorContext) -> None:
        run_id = context.dagster_run.run_id
        failed = [
            f"{one.asset_key.to_user_string()}, {one.check_name}: {one.description}"
            for one in _dagster.check_evaluations(context.instance, run_id)
            if not one.passed
        ]
        if failed:
            text = "\n".join([*failed, f"Run {run_id}"])
            send(pipeline.alerts, f"{pipeline.name}: a check failed", text)

    return [on_failure, on_checks]

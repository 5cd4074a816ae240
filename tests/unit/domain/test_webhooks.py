import base64

from domain.lifecycle import TERMINAL_JOB
from domain.webhooks import (
    ANNOUNCED,
    MAX_ATTEMPTS,
    key_secret,
    pause_seconds,
    shown_secret,
    signed_headers,
)


def test_a_call_is_signed_as_the_standards_own_example_is() -> None:
    """The example of the libraries at github.com/standard-webhooks/standard-webhooks."""
    headers = signed_headers(
        base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        b'{"test": 2432232314}',
        delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at_seconds=1614265330,
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_every_key_has_a_secret_of_its_own_that_another_signing_secret_changes() -> None:
    secrets = {key_secret(service, key) for service in ("one", "two") for key in ("key_a", "key_b")}
    assert len(secrets) == 4
    assert {len(secret) for secret in secrets} == {32}
    assert key_secret("one", "key_a") in secrets
    shown = shown_secret(key_secret("one", "key_a"))
    assert base64.b64decode(shown.removeprefix("whsec_")) == key_secret("one", "key_a")


def test_attempts_are_further_and_further_apart_and_end_after_a_day() -> None:
    pauses = [pause_seconds(attempts) for attempts in range(1, MAX_ATTEMPTS)]
    known = [pause for pause in pauses if pause is not None]
    assert known[:5] == [5, 30, 120, 600, 3600]
    assert known == sorted(known)
    assert 20 * 3600 < sum(known) < 28 * 3600
    assert (MAX_ATTEMPTS, len(known)) == (8, 7)
    assert pause_seconds(MAX_ATTEMPTS) is None
    assert pause_seconds(MAX_ATTEMPTS + 3) is None


def test_every_end_of_a_job_is_announced() -> None:
    assert {f"job.{status}" for status in TERMINAL_JOB} <= ANNOUNCED

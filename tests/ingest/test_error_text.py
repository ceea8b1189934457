"""No secret of an API reaches a log or a status."""

import pytest

from api2db.texts import describe_error, redact

SECRET = "s3cr3t-v4lue"


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{SECRET}@example.org/x refused",
        f"GET https://example.org/x?api_key={SECRET}&page=2 failed",
        f"Max retries exceeded with url: /x?appid={SECRET} (Caused by y)",
        f"https://user:p@{SECRET}@example.org/x refused",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Token {SECRET}",
        f"authorization: {SECRET}",
        f"headers {{'Authorization': 'ApiKey {SECRET}', 'Accept': 'json'}}",
        f"Set-Cookie: session={SECRET}; path=/",
        f"wrong password={SECRET}",
        f"headers {{'X-Api-Key': '{SECRET}', 'Accept': 'json'}}",
        f'{{"access_token": "{SECRET}"}}',
        f"client_secret: {SECRET}",
    ],
)
def test_a_secret_is_masked(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)


def test_what_is_no_secret_can_still_be_read() -> None:
    text = "HTTP Error 500: Internal Server Error at https://example.org:8080/v1/rows after 3 tries; KeyError: 'page'"
    assert redact(text) == text


def test_an_error_is_told_with_the_line_that_a_user_can_mend() -> None:
    try:
        raise KeyError("page")
    except KeyError as error:
        said = describe_error(error)
    assert said.startswith("KeyError: 'page' (test_error_text.py:")

import pytest
import typer

from maskmill.cli.progress import leaving


def test_ctrl_c_ends_a_command_with_130_and_says_what_becomes_of_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended, leaving("exp_1 stays"):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "exp_1 stays\n"


def test_what_fails_otherwise_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="no"), leaving("exp_1 stays"):
        raise ValueError("no")

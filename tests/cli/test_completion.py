"""Shell completion: the script knows every command, its flags and the configs, and bash reads it."""

import shutil
import subprocess

import pytest

from mmood.cli.commands import COMMANDS
from mmood.cli.help_texts import flags_of
from mmood.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_knows_commands_flags_and_configs(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out

    for word in (*COMMANDS, "--data.class_names", "--false_alarms", "vitb16_zeroshot.yaml"):
        assert word in script, word


def test_flags_are_those_of_the_help():
    assert {"--out", "--resamples"} == set(flags_of("report"))
    assert {"--chunk", "--part", "--sets", "--dtype", "--quiet"} <= set(flags_of("embed"))
    assert "--help" not in flags_of("test")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_command_and_a_flag_that_it_passes_on(tmp_path, capsys):
    main(["completion", "bash"])
    (tmp_path / "mmood.sh").write_text(capsys.readouterr().out)

    def completed(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in words)
        line = (
            f"COMP_WORDS=(mmood {typed}); COMP_CWORD={len(words)}; _shtab_mmood; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        answer = subprocess.run(
            ["bash", "-c", f"source {tmp_path}/mmood.sh; {line}"], capture_output=True, text=True, check=False
        )
        return answer.stdout.split()

    assert completed("pre") == ["predict", "prepare"]
    assert "--data.root" in completed("embed", "--data.r")


def test_an_unknown_shell_is_refused_in_a_sentence(capsys):
    assert main(["completion", "cmd"]) == 2
    assert "cmd" in capsys.readouterr().err

"""Ctrl-C at a chosen moment of a program's run."""


def interrupted(monkeypatch, run, owner, name, call, line):
    """Press Ctrl-C at the given call of a method, before it does its work; how the run ended."""
    calls = []
    method = getattr(owner, name)

    def pressed(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return method(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, pressed)
        outcome = run(line)
    assert len(calls) >= call, "never pressed"
    assert outcome.status == 130, outcome.error
    assert outcome.lines[-1].startswith("stopped; continue with: python -m experiments.")
    return outcome

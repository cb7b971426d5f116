"""`sources user add` on a terminal: nothing of the password is shown, and the terminal is as before, after Ctrl-C too.
Arguments: the program, its configuration."""
import os, pty, sys, termios

program, config = sys.argv[1:3]


def add(name, keys):
    child, terminal = pty.fork()
    if child == 0:
        os.execv(program, [program, "--config", config, "sources", "user", "add", name])
    said = b""
    while b"asked for once" not in said:
        said += os.read(terminal, 1024)
    assert not termios.tcgetattr(terminal)[3] & termios.ECHO, "it is shown"
    os.write(terminal, keys)
    while True:
        try:
            more = os.read(terminal, 1024)
        except OSError:  # the other side is closed
            more = b""
        if not more:
            break
        said += more
        # The program's own last words come behind what was typed, on a terminal that shows again.
        if b"\n" in said.split(b"asked for once", 1)[1]:
            assert termios.tcgetattr(terminal)[3] & termios.ECHO, "it stays hidden"
            assert termios.tcgetattr(terminal)[3] & termios.ISIG, "its keys stay dead"
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert b"hunter2" not in said, said
    return status, said


status, said = add("typed", b"hunter2 hunter2\n")
assert status == 0 and b"typed is written with this password" in said, (status, said)
status, said = add("interrupted", b"hunter2\x03")
assert status != 0 and b"nothing was changed" in said, (status, said)

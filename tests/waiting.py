"""Processes that must end."""


def exit_codes(processes, limit_s):
    """Of all of them; one that does not end within the limit is killed and is an error."""
    for process in processes:
        process.join(limit_s)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutError(f"{process.name} did not end in {limit_s} s")
    return [process.exitcode for process in processes]

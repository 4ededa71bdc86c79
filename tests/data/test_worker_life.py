"""What ends a data worker beside its main process's wish: its work's end, and that process's death."""

import multiprocessing
import os
import select
import signal
import time

from blocks.data.loading.worker_life import begin_worker

LIMIT_S = 20


def test_a_worker_whose_work_is_done_ends():
    worker = multiprocessing.get_context("fork").Process(target=begin_worker, args=(0,))
    worker.start()
    worker.join(LIMIT_S)
    ended = worker.exitcode
    worker.kill()
    assert ended == 0


def test_a_worker_ends_with_a_main_process_that_was_killed():
    """In whatever it waits; when it has ended nobody holds the pipe's other end."""
    fork = multiprocessing.get_context("fork")
    reading, writing = os.pipe()

    def work():
        begin_worker(0)
        time.sleep(3 * LIMIT_S)

    def start_one_and_die():
        fork.Process(target=work).start()
        os.kill(os.getpid(), signal.SIGKILL)

    main = fork.Process(target=start_one_and_die)
    main.start()
    os.close(writing)
    main.join()
    assert main.exitcode == -signal.SIGKILL
    ended, _, _ = select.select([reading], [], [], LIMIT_S)
    os.close(reading)
    assert ended

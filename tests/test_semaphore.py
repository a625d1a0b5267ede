"""
Slots of the client's pool: in order, never lost, and cheap to queue for.
"""

import asyncio
import gc
import time

from bankconnect_async._http.semaphore import FifoSemaphore


async def queue(semaphore, count):
    """Have *count* tasks wait for a slot of a full semaphore."""
    tasks = [asyncio.create_task(semaphore.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    assert semaphore.waiting == count
    return tasks


async def cancel(tasks):
    """Cancel tasks, the last first, and return the CPU seconds it took."""
    began = time.process_time()
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return time.process_time() - began


async def test_leaving_the_queue_costs_the_same_for_each():
    """
    Sixteen times as many waiters leave in about sixteen times the time.
    """
    semaphore = FifoSemaphore(1)
    assert semaphore.try_acquire()
    # The collector looks through all tasks again and again.
    gc.disable()
    try:
        few = min(
            [await cancel(await queue(semaphore, 1_000)) for _ in range(3)]
        )
        many = min(
            [await cancel(await queue(semaphore, 16_000)) for _ in range(2)]
        )
    finally:
        gc.enable()

    # Each had looked through the whole queue, which made it 256 times.
    assert many < 64 * few
    assert semaphore.waiting == 0
    semaphore.release()
    assert semaphore.in_use == 0


async def test_slots_are_given_in_order():
    """
    The longest waiter is next, whoever has left the queue.
    """
    semaphore, order = FifoSemaphore(1), []
    assert semaphore.try_acquire()

    async def wait(number):
        await semaphore.acquire()
        order.append(number)
        semaphore.release()

    tasks = [asyncio.create_task(wait(number)) for number in range(6)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    await asyncio.sleep(0)
    semaphore.release()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert order == [1, 2, 4, 5]
    assert semaphore.in_use == 0


async def test_a_narrowed_gate_hands_no_slot_on():
    """
    Slots beyond a reduced size are not passed on, and the others are.
    """
    semaphore = FifoSemaphore(2)
    semaphore.grow(5)
    for _ in range(5):
        assert semaphore.try_acquire()
    tasks = await queue(semaphore, 3)

    semaphore.shrink(2)
    for _ in range(3):
        semaphore.release()
    await asyncio.sleep(0)
    assert (semaphore.in_use, semaphore.waiting) == (2, 3)

    semaphore.release()
    semaphore.release()
    await asyncio.sleep(0)
    assert (semaphore.in_use, semaphore.waiting) == (2, 1)
    semaphore.grow(3)
    await asyncio.gather(*tasks)
    assert (semaphore.in_use, semaphore.waiting, semaphore.size) == (3, 0, 3)

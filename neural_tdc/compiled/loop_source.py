"""The C++ of the loop over kernels that `kernel_loop` compiles."""

from collections.abc import Sequence

from neural_tdc.compiled.kernel_calls import Call


def loop_source(calls: Sequence[Call]) -> str:
    """Return a library's source: `replay` makes these calls again and again, for every block."""
    lines, begin = [], 0
    for number, call in enumerate(calls):
        size = len(call.arguments)
        kinds = ", ".join(["void*"] * size)
        values = ", ".join(f"a[{begin + index}]" for index in range(size))
        lines.append(f"reinterpret_cast<void (*)({kinds})>(work.functions[{number}])({values});")
        begin += size
    source = _SOURCE.replace("CALLS", "\n                ".join(lines))
    return source.replace("ARGUMENTS", str(begin))


_SOURCE = """
#include <cstdint>
#include <cstring>
#include <exception>
#include <pthread.h>

// Where an argument of a kernel is: what a thread carries or works in (0), a constant tensor of the
// block (1), or at a fixed address, which is the offset (2).
struct Place { int64_t group, number, offset; };

struct Work {
    int64_t times, blocks, leaves;
    void** functions;
    const Place* places;
    char** constants;
    int64_t constants_of_block;
    char **before, **after;
    const int64_t *sizes, *steps;
    char* message;
    int64_t room, next;
    bool failed;
};

struct Worker { Work* work; char* const* buffers[2]; pthread_t thread; bool started; };

static void one_block(Work& work, const Worker& worker, int64_t block) {
    void* arguments[2][ARGUMENTS];
    char** constants = work.constants + block * work.constants_of_block;
    for (int odd = 0; odd < 2; ++odd)
        for (int64_t n = 0; n < ARGUMENTS; ++n) {
            const Place place = work.places[n];
            char* base = place.group == 0 ? worker.buffers[odd][place.number]
                : place.group == 1 ? constants[place.number] : nullptr;
            arguments[odd][n] = base + place.offset;
        }
    for (int64_t n = 0; n < work.leaves; ++n)
        std::memcpy(worker.buffers[0][n], work.before[n] + block * work.steps[n], work.sizes[n]);
    for (int64_t time = 0; time < work.times; ++time) {
        void** a = arguments[time % 2];
        CALLS
    }
    for (int64_t n = 0; n < work.leaves; ++n)
        if (block == 0 || work.steps[n])
            std::memcpy(work.after[n] + block * work.steps[n], worker.buffers[work.times % 2][n],
                        work.sizes[n]);
}

static void* blocks(void* given) {
    Worker& worker = *static_cast<Worker*>(given);
    Work& work = *worker.work;
    try {
        for (;;) {
            const int64_t block = __atomic_fetch_add(&work.next, 1, __ATOMIC_RELAXED);
            if (block >= work.blocks) return nullptr;
            one_block(work, worker, block);
        }
    } catch (const std::exception& error) {
        // The first one to fail says why.
        if (!__atomic_test_and_set(&work.failed, __ATOMIC_RELAXED))
            std::strncpy(work.message, error.what(), work.room - 1);
    }
    return nullptr;
}

extern "C" int replay(int64_t times, int64_t count, int64_t leaves, int64_t threads,
                      void** functions, const Place* places, char*** buffers, char** constants,
                      int64_t constants_of_block, char** before, char** after,
                      const int64_t* sizes, const int64_t* steps, char* message, int64_t room) {
    Work work = {times, count, leaves, functions, places, constants, constants_of_block, before,
                 after, sizes, steps, message, room, 0, false};
    Worker workers[threads];
    for (int64_t n = threads - 1; n >= 0; --n) {
        workers[n] = {&work, {buffers[2 * n], buffers[2 * n + 1]}, {}, false};
        // The thread that asks takes blocks as well. It takes all where no other can be had.
        if (n)
            workers[n].started = !pthread_create(&workers[n].thread, nullptr, blocks, &workers[n]);
        else
            blocks(&workers[n]);
    }
    for (int64_t n = 1; n < threads; ++n)
        if (workers[n].started) pthread_join(workers[n].thread, nullptr);
    return work.failed;
}
"""

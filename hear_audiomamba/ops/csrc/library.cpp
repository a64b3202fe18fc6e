// The C interface of the shared library: picks the instruction set and spreads items over the threads.
#include <atomic>
#include <cstring>
#include <new>

#include "interface.h"
#include "pool.h"

namespace audiomamba {

namespace portable { extern const Kernels kernels; }
#if defined(AUDIOMAMBA_X86)
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
#endif

namespace {

typedef void (*GompParallel)(void (*)(void*), void*, unsigned, unsigned);
GompParallel gomp_parallel = nullptr;  // null: threads of our own
const Kernels* chosen = nullptr;

bool supported(const Kernels& k) {
#if defined(AUDIOMAMBA_X86)
  __builtin_cpu_init();
  if (&k == &avx512::kernels)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (&k == &avx2::kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return &k == &portable::kernels;
}

const Kernels* const all_kernels[] = {
#if defined(AUDIOMAMBA_X86)
    &avx512::kernels, &avx2::kernels,
#endif
    &portable::kernels,
};

enum Status : int64_t { kDone = 0, kOutOfMemory = 1 };

// Runs work(0) … work(items - 1), each once, on the calling thread and others. Stops where one finds no memory: an
// exception must not leave a thread.
template <class Work>
int64_t run_items(int64_t items, int64_t threads, const Work& work) {
  struct Shared {
    std::atomic<int64_t> next{0}, status{kDone};
    int64_t items;
    const Work* work;
    static void loop(void* self) {
      Shared& shared = *static_cast<Shared*>(self);
      try {
        for (int64_t i; (i = shared.next.fetch_add(1, std::memory_order_relaxed)) < shared.items;)
          (*shared.work)(i);
      } catch (const std::bad_alloc&) {
        shared.status = kOutOfMemory;
        shared.next = shared.items;
      }
    }
  } shared;
  shared.items = items;
  shared.work = &work;
  const int64_t team = threads < items ? threads : items;
  if (team <= 1)
    Shared::loop(&shared);
  else if (gomp_parallel)
    gomp_parallel(Shared::loop, &shared, unsigned(team), 0);
  else
    Pool::of_process().run(Shared::loop, &shared, team - 1);
  return shared.status;
}

void run_parts(int64_t threads, void (*work)(const void*, int64_t), const void* self) {
  run_items(threads, threads, [=](int64_t part) { work(self, part); });
}

}  // namespace
}  // namespace audiomamba

using namespace audiomamba;

#if defined(_WIN32)
#define AUDIOMAMBA_EXPORT __declspec(dllexport)
#else
#define AUDIOMAMBA_EXPORT
#endif

extern "C" {

// The number of this interface.
AUDIOMAMBA_EXPORT int64_t audiomamba_interface() { return kInterface; }

// The entry point of the OpenMP runtime torch has loaded; null for threads of our own.
AUDIOMAMBA_EXPORT void audiomamba_set_openmp(void* parallel) { gomp_parallel = reinterpret_cast<GompParallel>(parallel); }

// Chooses an instruction set by name, or the best one for null. Returns its name, or null if not possible.
AUDIOMAMBA_EXPORT const char* audiomamba_choose(const char* name) {
  for (const Kernels* k : all_kernels) {
    if (name && std::strcmp(name, k->name) != 0) continue;
    if (!supported(*k)) continue;
    chosen = k;
    return k->name;
  }
  return nullptr;
}

// The name of the instruction set in use.
AUDIOMAMBA_EXPORT const char* audiomamba_chosen() { return chosen ? chosen->name : nullptr; }

// Channels that share one item: the callers size checkpoints and the slabs of dB and dC by it.
AUDIOMAMBA_EXPORT int64_t audiomamba_channels_per_item() { return chosen->channels_per_item; }

// Whether a mixer can run on tensors of a Dtype: not 0 if so.
AUDIOMAMBA_EXPORT int64_t audiomamba_mixes(int64_t dtype) { return chosen->mixes(dtype); }

// The functions from here on return a Status.
AUDIOMAMBA_EXPORT int64_t audiomamba_scan_forward(const ScanArgs* a, int64_t threads) {
  const int64_t blocks = chosen->forward_blocks(*a, threads);
  return run_items(chosen->scan_items(*a, blocks), threads, [=](int64_t i) { chosen->scan_forward(*a, blocks, i); });
}

AUDIOMAMBA_EXPORT int64_t audiomamba_scan_backward(const ScanArgs* a, const ScanGradients* g, int64_t threads) {
  return run_items(chosen->backward_items(*a), threads, [a, g](int64_t i) { chosen->scan_backward(*a, *g, i); });
}

AUDIOMAMBA_EXPORT int64_t audiomamba_conv_forward(const ConvArgs* a, int64_t threads) {
  return run_items(chosen->conv_pieces(*a), threads, [a](int64_t i) { chosen->conv_forward(*a, i); });
}

AUDIOMAMBA_EXPORT int64_t audiomamba_conv_backward(const ConvArgs* a, const ConvGradients* g, int64_t threads) {
  return run_items(chosen->conv_items(*a), threads, [a, g](int64_t i) { chosen->conv_backward(*a, *g, i); });
}

// As many clips as give each thread the same number go one to a thread; all threads share each of the rest.
AUDIOMAMBA_EXPORT int64_t audiomamba_mixer(const MixerArgs* a, int64_t threads) {
  const int64_t rest = a->batch % threads, alone = a->batch - rest;
  const int64_t status = run_items(alone, threads, [a](int64_t clip) { chosen->mix(*a, clip, Team{1, run_parts}); });
  if (status != kDone) return status;
  return run_items(rest, 1, [=](int64_t i) { chosen->mix(*a, alone + i, Team{threads, run_parts}); });
}

}  // extern "C"

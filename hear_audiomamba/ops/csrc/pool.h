// Threads that help whoever calls, and that nobody waits for before they have begun.
#pragma once
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace audiomamba {

// OpenMP ends a parallel stretch when every thread of the team has come, also one that found nothing left to do and
// was only waiting for a processor. On a busy machine that is most of the time. Here the caller does all work that
// nobody has begun, and waits only for what is under way; and where it waits longer than it works, since other
// programs hold up its helpers, it does without them for a while.
class Pool {
 public:
  // The process's pool. A forked process has none of its parent's threads and makes a pool of its own.
  static Pool& of_process() {
    static std::atomic<Pool*> current{nullptr};
    Pool* pool = current;
    if (!pool || pool->process_ != process()) {
      Pool* made = new Pool;  // never deleted: its threads may outlive everything else
      if (current.compare_exchange_strong(pool, made)) return *made;
      delete made;  // another thread was first
      pool = current;
    }
    return *pool;
  }

  // Calls loop(shared) on this thread and on up to `helpers` others at the same time. Each call must take its work
  // from `shared` until none is left.
  void run(void (*loop)(void*), void* shared, int64_t helpers) {
    const Clock::time_point start = Clock::now();
    if (start.time_since_epoch().count() < alone_until_.load(std::memory_order_relaxed)) return loop(shared);
    Job job{loop, shared, helpers};
    {
      std::lock_guard<std::mutex> hold(lock_);
      grow(helpers);
      jobs_.push_back(&job);
      open_.store(int64_t(jobs_.size()), std::memory_order_release);
    }
    for (int64_t i = 0; i < helpers; ++i) opened_.notify_one();
    loop(shared);
    const Clock::time_point done = Clock::now();
    std::unique_lock<std::mutex> hold(lock_);
    close(&job);
    hold.unlock();
    spin([&job] { return job.active.load(std::memory_order_acquire) == 0; });
    hold.lock();
    while (job.active.load(std::memory_order_relaxed) != 0) wait(left_, hold);
    learn(done - start, Clock::now() - done);
  }

 private:
  typedef std::chrono::steady_clock Clock;

  struct Job {
    Job(void (*loop)(void*), void* shared, int64_t wanted) : loop(loop), shared(shared), wanted(wanted) {}
    void (*const loop)(void*);
    void* const shared;
    int64_t wanted;  // helpers that may still come
    std::atomic<int64_t> active{0};
  };

  // As the condition's own, which would ask for a newer libstdc++ than many systems have.
  static void wait(std::condition_variable& condition, std::unique_lock<std::mutex>& hold) {
    pthread_cond_wait(condition.native_handle(), hold.mutex()->native_handle());
  }

  static int64_t process() {
#if defined(_WIN32)
    return 0;
#else
    return getpid();
#endif
  }

  // Long enough for the gap between two calls of a model, short enough to cost others nothing.
  template <class Ready>
  static void spin(const Ready& ready) {
    const auto end = Clock::now() + std::chrono::microseconds(100);
    while (!ready() && Clock::now() < end)
      for (int i = 0; i < 32 && !ready(); ++i) pause();
  }
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  void grow(int64_t helpers) {
    try {
      for (; threads_ < helpers; ++threads_) std::thread([this] { help(); }).detach();
    } catch (const std::system_error&) {  // no more threads to be had: fewer will do
    }
  }

  void close(Job* job) {
    jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), job), jobs_.end());
    open_.store(int64_t(jobs_.size()), std::memory_order_relaxed);
  }

  // Judges the last few calls together: how long their callers worked and waited.
  void learn(Clock::duration worked, Clock::duration waited) {
    constexpr int kCalls = 8;
    constexpr auto kLeast = std::chrono::milliseconds(20), kMost = std::chrono::milliseconds(1000);
    worked_ += worked;
    waited_ += waited;
    if (++calls_ < kCalls) return;
    if (waited_ > 2 * worked_ + std::chrono::milliseconds(1)) {
      alone_for_ = std::clamp<Clock::duration>(2 * alone_for_, kLeast, kMost);
      alone_until_ = (Clock::now() + alone_for_).time_since_epoch().count();
    } else {
      alone_for_ = Clock::duration::zero();
    }
    worked_ = waited_ = Clock::duration::zero();
    calls_ = 0;
  }

  void help() {
    for (;;) {
      spin([this] { return open_.load(std::memory_order_relaxed) != 0; });
      std::unique_lock<std::mutex> hold(lock_);
      while (jobs_.empty()) wait(opened_, hold);
      Job* job = jobs_.front();
      if (--job->wanted == 0) close(job);
      ++job->active;
      hold.unlock();
      job->loop(job->shared);
      hold.lock();
      if (--job->active == 0) left_.notify_all();
    }
  }

  const int64_t process_ = process();
  std::mutex lock_;
  std::condition_variable opened_, left_;
  std::vector<Job*> jobs_;        // those that more helpers may join
  std::atomic<int64_t> open_{0};  // how many these are, for those who spin
  int64_t threads_ = 0;
  Clock::duration worked_{}, waited_{}, alone_for_{};
  int calls_ = 0;
  std::atomic<Clock::rep> alone_until_{0};
};

}  // namespace audiomamba

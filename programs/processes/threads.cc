// Threads of the C++ library: thread, async, condition_variable, shared_mutex, call_once, atomics.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <mutex>
#include <numeric>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

static long sum_of(const std::vector<int> &values, size_t from, size_t to)
{
	if (to - from < 1000)
		return std::accumulate(values.begin() + from, values.begin() + to, 0L);
	size_t middle = (from + to) / 2;
	auto left = std::async(std::launch::async, sum_of, std::cref(values), from, middle);
	return sum_of(values, middle, to) + left.get();
}

int main()
{
	std::vector<int> values(20000);
	std::iota(values.begin(), values.end(), 1);
	std::printf("sum %ld\n", sum_of(values, 0, values.size()));

	std::mutex mutex;
	std::condition_variable changed;
	std::shared_mutex shared;
	std::once_flag flag;
	std::atomic<long> count{0}, once{0};
	int turn = 0;
	std::vector<int> order;
	std::vector<std::thread> threads;
	for (int i = 0; i < 8; i++)
		threads.emplace_back([&, i] {
			std::call_once(flag, [&] { once++; });
			for (int j = 0; j < 10000; j++)
				count.fetch_add(1, std::memory_order_relaxed);
			std::unique_lock lock(mutex);
			changed.wait(lock, [&] { return turn == i; });
			order.push_back(i);
			turn++;
			changed.notify_all();
			lock.unlock();
			std::shared_lock reader(shared);
		});
	for (auto &thread : threads)
		thread.join();
	std::printf("count %ld once %ld order", count.load(), once.load());
	for (int i : order)
		std::printf(" %d", i);
	std::printf("\n");
	auto failing = std::async(std::launch::async, []() -> int { throw std::runtime_error("thrown"); });
	try {
		failing.get();
	} catch (const std::exception &error) {
		std::printf("%s in a thread\n", error.what());
	}
	std::promise<int> promise;
	std::thread([&] { promise.set_value(42); }).detach();
	std::printf("promise %d\n", promise.get_future().get());
	std::atomic<bool> stop{false};
	std::thread stopped([&] {
		while (!stop)
			std::this_thread::sleep_for(std::chrono::milliseconds(1));
		std::printf("asked to stop\n");
	});
	stop = true;
	stopped.join();
	return 0;
}

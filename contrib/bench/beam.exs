# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC

# elixir beam.exs JOB NUMBER [HOW...]: the jobs of otp.c on the BEAM, one repetition a run. Prints a line
# `@KEY VALUE` for each figure, with the same keys. What is measured is compiled (it is in modules), and
# what is sent is made at run time, so that it is copied like any term and not shared like a literal.

defmodule Tell do
  def now, do: :erlang.monotonic_time(:nanosecond)

  def result(key, value), do: IO.puts("@#{key} #{value}")

  def times(key, micros) do
    sorted = Enum.sort(micros)
    count = length(sorted)
    result(key, Enum.at(sorted, div(count, 2)))
    result("#{key}_p99", Enum.at(sorted, min(count - 1, div(count * 99, 100))))
  end

  # Kilobytes after `KEY:` in a file of /proc.
  def kb(file, key) do
    [_, number] = Regex.run(~r/^#{key}:\s+(\d+) kB/m, File.read!(file))
    String.to_integer(number)
  end

  def available, do: kb("/proc/meminfo", "MemAvailable")
  def own_pss, do: kb("/proc/self/smaps_rollup", "Pss")
end

defmodule Echo do
  use GenServer

  @impl true
  def init(_), do: {:ok, 0}

  @impl true
  def handle_call({:take, data}, _from, casts), do: {:reply, byte_size(data), casts}
  def handle_call(:count, _from, casts), do: {:reply, casts, casts}
  def handle_call(message, _from, casts), do: {:reply, message, casts}

  @impl true
  def handle_cast(_message, casts), do: {:noreply, casts + 1}
end

defmodule Names do
  defp start, do: {:ok, _} = Registry.start_link(keys: :unique, name: Names)

  defp lookups(_pid, 0), do: :ok

  defp lookups(pid, n) do
    [{^pid, 1}] = Registry.lookup(Names, "printer")
    lookups(pid, n - 1)
  end

  def lookup(n, _) do
    start()
    me = self()

    pid =
      spawn_link(fn ->
        {:ok, _} = Registry.register(Names, "printer", 1)
        send(me, :registered)
        Process.sleep(:infinity)
      end)

    receive do
      :registered -> :ok
    end

    lookups(pid, div(n, 10) + 1)
    begin = Tell.now()
    lookups(pid, n)
    Tell.result("ns", (Tell.now() - begin) / n)
  end

  defp pairs(0), do: :ok

  defp pairs(n) do
    {:ok, _} = Registry.register(Names, n, n)
    :ok = Registry.unregister(Names, n)
    pairs(n - 1)
  end

  defp registers(0), do: :ok

  defp registers(n) do
    {:ok, _} = Registry.register(Names, n, n)
    registers(n - 1)
  end

  def register(n, _) do
    start()
    pairs(div(n, 10) + 1)
    begin = Tell.now()
    registers(n)
    Tell.result("us", (Tell.now() - begin) / 1000 / n)
  end

  def register_pair(n, _) do
    start()
    pairs(div(n, 10) + 1)
    begin = Tell.now()
    pairs(n)
    Tell.result("us", (Tell.now() - begin) / 1000 / n)
  end

  defp gets(_agent, 0), do: :ok

  defp gets(agent, n) do
    0 = Agent.get(agent, & &1)
    gets(agent, n - 1)
  end

  defp updates(_agent, 0), do: :ok

  defp updates(agent, n) do
    :ok = Agent.update(agent, &(&1 + 1))
    updates(agent, n - 1)
  end

  def agent(n, _) do
    {:ok, agent} = Agent.start_link(fn -> 0 end)
    gets(agent, div(n, 10) + 1)
    begin = Tell.now()
    gets(agent, n)
    Tell.result("us", (Tell.now() - begin) / 1000 / n)
    begin = Tell.now()
    updates(agent, n)
    Tell.result("update_us", (Tell.now() - begin) / 1000 / n)
  end
end

defmodule Talk do
  # Eight words, 64 bytes.
  def payload, do: List.to_tuple(Enum.to_list(1..7))

  # All do their part at the same time; nanoseconds from the first begin to the last end.
  def gather(members, each, work) do
    me = self()

    pids =
      for _ <- 1..members do
        spawn_link(fn ->
          work.(div(each, 10) + 1)
          send(me, {:ready, self()})

          receive do
            :go -> :ok
          end

          begin = Tell.now()
          work.(each)
          send(me, {:took, self(), begin, Tell.now()})
        end)
      end

    for pid <- pids do
      receive do
        {:ready, ^pid} -> :ok
      end
    end

    for pid <- pids, do: send(pid, :go)

    times =
      for pid <- pids do
        receive do
          {:took, ^pid, begin, finish} -> {begin, finish}
        end
      end

    {begins, ends} = Enum.unzip(times)
    Enum.max(ends) - Enum.min(begins)
  end

  defp calls(_server, _message, 0), do: :ok

  defp calls(server, message, n) do
    ^message = GenServer.call(server, message)
    calls(server, message, n - 1)
  end

  def call(n, [members | _]) do
    {:ok, server} = GenServer.start_link(Echo, [])
    members = String.to_integer(members)
    each = div(n, members)
    took = gather(members, each, fn n -> calls(server, payload(), n) end)
    Tell.result("us", took / 1000 / each)
    Tell.result("k_per_s", each * members / took * 1.0e6)
  end

  defp casts(_server, _message, 0), do: :ok

  defp casts(server, message, n) do
    GenServer.cast(server, message)
    casts(server, message, n - 1)
  end

  # The call comes behind the sender's own casts, so all of them have been handled then.
  def cast(n, [members | _]) do
    {:ok, server} = GenServer.start_link(Echo, [])
    members = String.to_integer(members)
    each = div(n, members)

    took =
      gather(members, each, fn n ->
        casts(server, payload(), n)
        GenServer.call(server, :count, :infinity)
      end)

    ^n = GenServer.call(server, :count, :infinity) - members * (div(each, 10) + 1)
    Tell.result("M_per_s", each * members / took * 1000)
  end

  defp sink do
    receive do
      {:count, from} -> send(from, :counted)
      _ -> :ok
    end

    sink()
  end

  defp sends(_pid, _message, 0), do: :ok

  defp sends(pid, message, n) do
    send(pid, message)
    sends(pid, message, n - 1)
  end

  # The fastest that the BEAM has for many senders: no GenServer, and a queue outside the heap.
  def raw(n, [members | _]) do
    pid = :erlang.spawn_opt(&sink/0, [:link, {:message_queue_data, :off_heap}])
    members = String.to_integer(members)
    each = div(n, members)

    took =
      gather(members, each, fn n ->
        sends(pid, payload(), n)
        send(pid, {:count, self()})

        receive do
          :counted -> :ok
        end
      end)

    Tell.result("M_per_s", each * members / took * 1000)
  end

  # A binary of this size is passed by reference. By default it is one and the same; fresh: made for each call.
  def big(n, how) do
    {:ok, server} = GenServer.start_link(Echo, [])
    size = 64 * 1024
    same = :binary.copy(<<7>>, size)
    make = if how == ["fresh"], do: &:binary.copy(<<&1::8>>, size), else: fn _ -> same end
    took = gather(1, n, fn n -> takes(server, make, size, n) end)
    Tell.result("us", took / 1000 / n)
  end

  defp takes(_server, _make, _size, 0), do: :ok

  defp takes(server, make, size, n) do
    ^size = GenServer.call(server, {:take, make.(n)})
    takes(server, make, size, n - 1)
  end
end

# Its state: an array with the number of lives so far, then births, then deaths.
defmodule Mortal do
  use GenServer

  def start_link(state), do: GenServer.start_link(__MODULE__, state, name: __MODULE__)

  @impl true
  def init(:watched), do: {:ok, nil}

  def init({array, deaths}) do
    now = Tell.now()
    number = :atomics.get(array, 1)
    :atomics.put(array, 2 + number, now)
    :atomics.put(array, 1, number + 1)
    if number == deaths, do: {:ok, nil}, else: {:ok, {array, deaths, number}, 2}
  end

  @impl true
  def handle_info(:timeout, {array, deaths, number}) do
    :atomics.put(array, 3 + deaths + number, Tell.now())
    Process.exit(self(), :kill)
    {:noreply, nil}
  end
end

defmodule Life do
  defp start(state) do
    mortal = %{id: Mortal, start: {Mortal, :start_link, [state]}}
    options = [strategy: :one_for_one, max_restarts: 1_000_000, max_seconds: 1]
    {:ok, sup} = Supervisor.start_link([mortal], options)
    sup
  end

  # It kills itself, and nobody looks on.
  def restart(n, []) do
    array = :atomics.new(2 * n + 3, [])
    sup = start({array, n})
    await_lives(array, n + 1)

    Tell.times(
      "us",
      for i <- 0..(n - 1) do
        (:atomics.get(array, 3 + i) - :atomics.get(array, 3 + n + i)) / 1000
      end
    )

    Supervisor.stop(sup)
  end

  # This process kills it, and looks for the new one under its name without a pause.
  def restart(n, ["watched"]) do
    sup = start(:watched)

    Tell.times(
      "us",
      for _ <- 1..n do
        old = Process.whereis(Mortal)
        Process.sleep(2)
        killed = Tell.now()
        Process.exit(old, :kill)
        look(old)
        (Tell.now() - killed) / 1000
      end
    )

    Supervisor.stop(sup)
  end

  defp look(old) do
    case Process.whereis(Mortal) do
      pid when is_pid(pid) and pid != old -> :ok
      _ -> look(old)
    end
  end

  defp await_lives(array, lives) do
    if :atomics.get(array, 1) < lives do
      Process.sleep(20)
      await_lives(array, lives)
    end
  end

  def down(n, _how) do
    Tell.times(
      "us",
      for _ <- 1..n do
        {pid, ref} =
          spawn_monitor(fn ->
            receive do
              :never -> :ok
            end
          end)

        Process.sleep(2)
        killed = Tell.now()
        Process.exit(pid, :kill)

        receive do
          {:DOWN, ^ref, _, _, _} -> (Tell.now() - killed) / 1000
        end
      end
    )
  end

  defp spawn_and_see(0), do: :ok

  defp spawn_and_see(n) do
    {_, ref} = spawn_monitor(fn -> :ok end)

    receive do
      {:DOWN, ^ref, _, _, _} -> :ok
    end

    spawn_and_see(n - 1)
  end

  defp spawn_only(0), do: :ok

  defp spawn_only(n) do
    spawn(fn -> :ok end)
    spawn_only(n - 1)
  end

  def spawn_job(n, _how) do
    spawn_and_see(div(n, 10) + 1)
    begin = Tell.now()
    spawn_and_see(n)
    Tell.result("us", (Tell.now() - begin) / 1000 / n)
    begin = Tell.now()
    spawn_only(n)
    Tell.result("alone_us", (Tell.now() - begin) / 1000 / n)
  end
end

defmodule Jobs do
  # Each is awaited before the next begins.
  def task(n, _) do
    tasks(div(n, 10) + 1)
    begin = Tell.now()
    tasks(n)
    Tell.result("us", (Tell.now() - begin) / 1.0e3 / n)
  end

  defp tasks(n) do
    for i <- 1..n, do: ^i = Task.await(Task.async(fn -> i end))
    :ok
  end

  def stream(n, _) do
    elements(div(n, 10) + 1)
    begin = Tell.now()
    elements(n)
    Tell.result("ns", (Tell.now() - begin) / n)
  end

  defp elements(n) do
    sum =
      1..n
      |> Task.async_stream(fn i -> i * 2 end)
      |> Enum.reduce(0, fn {:ok, value}, sum -> sum + value end)

    ^sum = n * (n + 1)
    :ok
  end
end

defmodule Idle do
  use GenServer
  def start_link(x), do: GenServer.start_link(__MODULE__, x)
  @impl true
  def init(x), do: {:ok, x}
end

defmodule Tree do
  defp top, do: DynamicSupervisor.start_link(strategy: :one_for_one)

  defp below,
    do: %{id: :below, type: :supervisor, start: {DynamicSupervisor, :start_link, [[strategy: :one_for_one]]}}

  defp idle(id), do: %{id: id, start: {Idle, :start_link, [id]}}

  defp plant(_sup, 0), do: :ok

  defp plant(sup, n) do
    {:ok, _} = DynamicSupervisor.start_child(sup, idle(n))
    plant(sup, n - 1)
  end

  # The VM counts what its processes take; what the machine gives it for them is more, or was there already.
  defp counted do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    :erlang.memory(:total)
  end

  defp add(sup, 0), do: sup

  defp add(sup, n) do
    {:ok, _} = DynamicSupervisor.start_child(sup, below())
    add(sup, n - 1)
  end

  def memory(n, _how) do
    {:ok, sup} = top()
    Process.sleep(200)
    Tell.result("node_pss", Tell.own_pss())
    before = counted()
    add(sup, 1000)
    Tell.result("sup_counted", (counted() - before) / 1024 / 1000)
    DynamicSupervisor.stop(sup)
    {:ok, sup} = top()
    before = counted()
    {:memory, own} = Process.info(sup, :memory)
    Process.sleep(1500)
    {pss, available} = {Tell.own_pss(), Tell.available()}
    plant(sup, n)
    Process.sleep(1500)
    Tell.result("server_pss", (Tell.own_pss() - pss) / n)
    Tell.result("server_available", (available - Tell.available()) / n)
    Tell.result("server_counted", (counted() - before) / 1024 / n)
    {:memory, grown} = Process.info(sup, :memory)
    Tell.result("growth", (grown - own) / 1024 / n)
    DynamicSupervisor.stop(sup)
  end

  def grow("static", n) do
    {:ok, sup} = Supervisor.start_link(Enum.map(1..n, &idle/1), strategy: :one_for_one)
    sup
  end

  def grow("static-split", n) do
    children = Enum.map(1..div(n, 10), &idle/1)

    parts =
      for i <- 1..10 do
        %{id: i, type: :supervisor, start: {Supervisor, :start_link, [children, [strategy: :one_for_one]]}}
      end

    {:ok, sup} = Supervisor.start_link(parts, strategy: :one_for_one)
    sup
  end

  def grow("dynamic", n) do
    {:ok, sup} = top()
    plant(sup, n)
    sup
  end

  def grow("dynamic-split", n) do
    {:ok, sup} = top()

    planters =
      for _ <- 1..10 do
        {:ok, part} = DynamicSupervisor.start_child(sup, below())
        spawn_monitor(fn -> plant(part, div(n, 10)) end)
      end

    for {_, ref} <- planters do
      receive do
        {:DOWN, ^ref, _, _, :normal} -> :ok
      end
    end

    sup
  end

  def tree(n, [kind]) do
    begin = Tell.now()
    sup = grow(kind, n)
    Tell.result("start_ms", (Tell.now() - begin) / 1.0e6)
    ^n = length(Process.list() |> Enum.filter(&(initial_call(&1) == {Idle, :init, 1})))
    Process.sleep(200)
    begin = Tell.now()
    Supervisor.stop(sup, :normal, :infinity)
    Tell.result("stop_ms", (Tell.now() - begin) / 1.0e6)
  end

  defp initial_call(pid) do
    case Process.info(pid, :dictionary) do
      {:dictionary, dictionary} -> dictionary[:"$initial_call"]
      nil -> nil
    end
  end
end

# Deaths are not reported, as on the other side; with reports nothing else would be measured.
Logger.configure(level: :none)
:logger.set_primary_config(:level, :none)

jobs = %{
  "call" => &Talk.call/2,
  "lookup" => &Names.lookup/2,
  "register" => &Names.register/2,
  "register_pair" => &Names.register_pair/2,
  "agent" => &Names.agent/2,
  "cast" => &Talk.cast/2,
  "raw" => &Talk.raw/2,
  "big" => &Talk.big/2,
  "restart" => &Life.restart/2,
  "down" => &Life.down/2,
  "spawn" => &Life.spawn_job/2,
  "task" => &Jobs.task/2,
  "stream" => &Jobs.stream/2,
  "memory" => &Tree.memory/2,
  "tree" => &Tree.tree/2
}

case System.argv() do
  ["version" | _] ->
    IO.puts("OTP #{System.otp_release()}, Elixir #{System.version()}, #{:erlang.system_info(:emu_flavor)}")

  [job, number | how] when is_map_key(jobs, job) ->
    jobs[job].(String.to_integer(number), how)

  _ ->
    IO.puts(:stderr, "usage: elixir beam.exs JOB NUMBER [HOW...]")
    System.halt(2)
end

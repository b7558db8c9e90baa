// Candles of 5 minutes out of those of 1 minute, as an example of downsampling in the store. Whole windows only; it looks back a
// quarter of an hour, so that a candle that came late is still taken.
import "date"
option task = {name: "ohlcv_5m", every: 5m, offset: 30s}
stop = date.truncate(t: now(), unit: 5m)
start = date.sub(d: 15m, from: stop)
folded = (field, fn) => from(bucket: "market_history")
  |> range(start: start, stop: stop)
  |> filter(fn: (r) => r._measurement == "ohlcv_data" and r.timeframe == "1m" and r._field == field)
  |> aggregateWindow(every: 5m, fn: fn, timeSrc: "_start", createEmpty: false)
  |> set(key: "_measurement", value: "ohlcv_5m")
  |> set(key: "timeframe", value: "5m")
  |> to(bucket: "market_history")
folded(field: "open", fn: first) |> yield(name: "open")
folded(field: "high", fn: max) |> yield(name: "high")
folded(field: "low", fn: min) |> yield(name: "low")
folded(field: "close", fn: last) |> yield(name: "close")
folded(field: "volume", fn: sum) |> yield(name: "volume")

// Points of recall against queries per second: which are worth having, and what they say about a recall in between.

/** The points that no other beats in both, by rising recall (and so falling qps). */
export function paretoFront(points) {
  const sorted = [...points].sort((a, b) => b.recall - a.recall || b.qps - a.qps);
  const front = [];
  let best = -Infinity;
  for (const point of sorted) {
    if (point.qps > best) {
      front.push(point);
      best = point.qps;
    }
  }
  return front.reverse();
}

/**
 * Queries per second at a recall: along the front, linear in the logarithm of qps between the two points around it. The
 * fastest point when all reach the recall; null when none does.
 */
export function qpsAt(points, recall) {
  const front = paretoFront(points);
  const above = front.findIndex((point) => point.recall >= recall);
  if (above < 0) return null;
  if (above === 0) return front[0].qps;
  const [low, high] = [front[above - 1], front[above]];
  const share = (recall - low.recall) / (high.recall - low.recall);
  return Math.exp(Math.log(low.qps) * (1 - share) + Math.log(high.qps) * share);
}

/** Points of the front around each recall: `beside` on either side. These are worth measuring again. */
export function aroundTargets(points, recalls, beside) {
  const front = paretoFront(points);
  const chosen = new Set();
  for (const recall of recalls) {
    const above = front.findIndex((point) => point.recall >= recall);
    const centre = above < 0 ? front.length : above;
    front.slice(Math.max(0, centre - beside), centre + beside).forEach((point) => chosen.add(point));
  }
  return [...chosen];
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Slope of log y over log x by least squares: the exponent b of y = a x^b. */
export function powerLaw(xs, ys) {
  const u = xs.map(Math.log);
  const v = ys.map(Math.log);
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [mu, mv] = [mean(u), mean(v)];
  const across = u.reduce((sum, value, i) => sum + (value - mu) * (v[i] - mv), 0);
  return across / u.reduce((sum, value) => sum + (value - mu) ** 2, 0);
}

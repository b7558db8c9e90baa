/** Draws stretches of missing data across a pane, behind the bars: a solid edge on top, diagonal lines below it. */

const STEP_PX = 7; // between lines
const EDGE_PX = 4;

export class Hatching {
  /** bands(): [{from, to}] in seconds, the windows of their first and last row; colour(): of the lines. */
  constructor(bands, colour) {
    this.bands = bands;
    this.colour = colour;
    this.views = [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => target.useBitmapCoordinateSpace((scope) => this.draw(scope)) }) }];
  }

  attached({ chart, requestUpdate }) {
    this.chart = chart;
    this.again = requestUpdate;
  }

  paneViews() {
    return this.views;
  }

  draw({ context, bitmapSize, horizontalPixelRatio: ratio }) {
    const scale = this.chart.timeScale();
    const half = scale.options().barSpacing / 2;
    context.save();
    context.strokeStyle = context.fillStyle = this.colour();
    context.lineWidth = ratio;
    for (const { from, to } of this.bands()) {
      const [left, right] = [scale.timeToCoordinate(from), scale.timeToCoordinate(to)];
      if (left === null || right === null) continue;
      this.hatch(context, (left - half) * ratio, (right + half) * ratio, bitmapSize.height, ratio);
    }
    context.restore();
  }

  hatch(context, left, right, height, ratio) {
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.fillRect(left, 0, right - left, EDGE_PX * ratio);
    context.globalAlpha = 0.5;
    context.beginPath();
    for (let x = left - height; x < right; x += STEP_PX * ratio) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
    context.restore();
  }
}

// A mask at the photograph's own size: a byte for each pixel, 0 background, from 1 on the number of a class.

export class LabelMap {
  constructor(width, height, ids) {
    this.width = width;
    this.height = height;
    this.ids = ids; // Uint8Array, row after row
  }

  /**
   * Give `value` to the pixels whose centres are at most `radius` from the line from `start` to `end` ({x, y} in
   * pixels). Returns the rectangle that may have changed, or null.
   */
  stroke(start, end, radius, value) {
    const rectangle = this.around(start, end, radius);
    if (rectangle === null) return null;
    const [dx, dy] = [end.x - start.x, end.y - start.y];
    const squaredLength = dx * dx + dy * dy;
    for (let row = rectangle.top; row < rectangle.bottom; row++) {
      for (let column = rectangle.left; column < rectangle.right; column++) {
        const [px, py] = [column + 0.5 - start.x, row + 0.5 - start.y];
        const along = squaredLength ? Math.min(1, Math.max(0, (px * dx + py * dy) / squaredLength)) : 0;
        const [ox, oy] = [px - along * dx, py - along * dy];
        if (ox * ox + oy * oy <= radius * radius) this.ids[row * this.width + column] = value;
      }
    }
    return rectangle;
  }

  around(start, end, radius) {
    const left = Math.max(0, Math.floor(Math.min(start.x, end.x) - radius));
    const top = Math.max(0, Math.floor(Math.min(start.y, end.y) - radius));
    const right = Math.min(this.width, Math.ceil(Math.max(start.x, end.x) + radius));
    const bottom = Math.min(this.height, Math.ceil(Math.max(start.y, end.y) + radius));
    return left < right && top < bottom ? { left, top, right, bottom } : null;
  }
}

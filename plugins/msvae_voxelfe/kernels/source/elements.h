/* Fully integrated trilinear elements: the forces that a field of nodes' values causes, slab by slab.
 *
 * Over a voxel, with xi, eta, zeta in [-1, 1], a trilinear field is u = sum m_pqr xi^p eta^q zeta^r with the modes
 * m_pqr = 1/8 sum over corners of s_x^p s_y^q s_z^r u (s = -1 or +1). Its gradient has the orthogonal parts
 *     1, xi, eta, zeta, eta zeta, xi zeta, xi eta     with mean squares  1, 1/3, 1/3, 1/3, 1/9, 1/9, 1/9,
 * so the exactly integrated element needs the material law once per part, and no element matrix. The sums over corners
 * are made axis by axis, and every sum once: neighbours share theirs. Included by kernels.c.
 */

/* S = law(G) for a gradient G[component][axis]: q = k g (1 parameter), Hooke's isotropic law (lambda, mu) or his general
 * one (21: the upper triangle of the stiffness, row by row, in the order 11 22 33 23 13 12) */
INLINE void law(int laws, const vec *material, vec G[3][3], vec S[3][3]) {
    if (laws == 21) {
        static const int place[6][2] = {{0, 0}, {1, 1}, {2, 2}, {1, 2}, {0, 2}, {0, 1}};
        vec stress[6] = {{0}};
        int entry = 0;
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
#pragma GCC unroll 6
            for (int j = i; j < 6; j++, entry++) {
                const int a = place[i][0], b = place[i][1], c = place[j][0], d = place[j][1];
                stress[i] += material[entry] * (c == d ? G[c][d] : G[c][d] + G[d][c]);
                if (i != j) stress[j] += material[entry] * (a == b ? G[a][b] : G[a][b] + G[b][a]);
            }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) S[place[i][0]][place[i][1]] = S[place[i][1]][place[i][0]] = stress[i];
        return;
    }
    if (laws == 1) {
        for (int x = 0; x < 3; x++) S[0][x] = material[0] * G[0][x];
        return;
    }
    const vec lambda = material[0], mu = material[1];
    const vec trace = lambda * (G[0][0] + G[1][1] + G[2][2]);
#pragma GCC unroll 3
    for (int c = 0; c < 3; c++)
#pragma GCC unroll 3
        for (int x = 0; x < 3; x++) S[c][x] = c == x ? mu * (G[c][x] + G[x][c]) + trace : mu * (G[c][x] + G[x][c]);
}

/* What an element needs to know of the voxels. slope[x]: from differences of nodes to gradients along x. back[k][x]: from
 * a part of the stress, of mean square 1, 1/3 and 1/9, to forces */
struct voxel {
    real slope[3], back[3][3];
};

INLINE struct voxel voxel_of(const real *spacing) {
    struct voxel v;
    const real volume = spacing[0] * spacing[1] * spacing[2], square[3] = {1, (real)1 / 3, (real)1 / 9};
    for (int x = 0; x < 3; x++) {
        v.slope[x] = (real)0.25 / spacing[x]; /* of sums over eight corners: 2/h is that of a mode, the sum's eighth */
        for (int k = 0; k < 3; k++) v.back[k][x] = square[k] * v.slope[x] * volume;
    }
    return v;
}

/* sums over the corners M[component][pqr] = sum s_x^p s_y^q s_z^r u -> forces on them, in place; work gathers the product
 * of the two, and, unless stepping, sum the mean part of S, to whose gradient macro is added. The first mode has none */
INLINE void element(int components, int laws, int stepping, const vec *material, const struct voxel *v, const vec *macro,
                    vec M[3][8], vec *sum, vec *work) {
    /* part: which axes' gradients it has, and the mode each takes for that axis */
    static const int mode[7][3] = {{4, 2, 1}, {-1, 6, 5}, {6, -1, 3}, {5, 3, -1}, {7, -1, -1}, {-1, 7, -1}, {-1, -1, 7}};
    static const int square[7] = {0, 1, 1, 1, 2, 2, 2};
    vec F[3][8] = {{{0}}};
#pragma GCC unroll 7
    for (int part = 0; part < 7; part++) {
        vec G[3][3] = {{{0}}}, S[3][3];
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++) {
                if (mode[part][x] >= 0) G[c][x] = v->slope[x] * M[c][mode[part][x]];
                if (part == 0 && !stepping) G[c][x] += macro[3 * c + x];
            }
        law(laws, material, G, S);
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 3
            for (int x = 0; x < 3; x++) {
                if (mode[part][x] >= 0) F[c][mode[part][x]] += v->back[square[part]][x] * S[c][x];
                if (part == 0 && !stepping) sum[3 * c + x] += S[c][x];
            }
    }
#pragma GCC unroll 3
    for (int c = 0; c < components; c++)
#pragma GCC unroll 7
        for (int m = 1; m < 8; m++) {
            *work += M[c][m] * F[c][m];
            M[c][m] = F[c][m];
        }
}

/* A slab of voxels between two planes of nodes, row by row. Here and below sizes and places count reals: a row of nz
 * voxels has 2 nz of them. Everything is (..., row) in memory that is small enough to stay in the fastest cache.
 * edge (2 components): sum and difference of the planes' nodes, of one row of them, the first repeated at the end.
 * met (4 components): of that, sum and difference of neighbours along the row.
 * carried (4 components): forces that a row of voxels leaves on the next row of nodes, before they are told apart.
 * low, high: forces on the planes, apart from one component to the next; add: whether to what is there. */
struct slab {
    real *edge, *met, *carried, *low, *high;
    long length, row, low_apart, high_apart;
    int add_low, add_high;
};

/* sum and difference of a row of nodes in both planes; apart: from one component to the next */
INLINE void join(int components, const struct slab *s, const real *low, const real *high, long apart) {
    for (int c = 0; c < components; c++) {
        const real *restrict a = low + c * apart, *restrict b = high + c * apart;
        real *restrict sum = s->edge + 2 * c * s->row, *restrict difference = sum + s->row;
        long k = 0;
        for (; k + WIDTH <= s->length; k += WIDTH) {
            const vec below = load(a + k), above = load(b + k);
            store(sum + k, below + above);
            store(difference + k, above - below);
        }
        for (; k < s->length; k++) {
            sum[k] = a[k] + b[k];
            difference[k] = b[k] - a[k];
        }
        for (int part = 0; part < 2; part++) {
            sum[s->length + part] = sum[part];
            difference[s->length + part] = difference[part];
        }
    }
}

/* of the first row of nodes: sum and difference of neighbours along it */
INLINE void meet(int components, const struct slab *s) {
    for (int m = 0; m < 2 * components; m++)
        for (long k = 0; k < s->length; k += WIDTH) {
            const vec a = load(s->edge + m * s->row + k), b = load(s->edge + m * s->row + k + 2);
            store(s->met + 2 * m * s->row + k, a + b);
            store(s->met + (2 * m + 1) * s->row + k, b - a);
        }
}

/* add to the forces of a row of nodes, from k on, what voxels beside it leave there: T[component][2 p + r]. before: of
 * each component and p, what the last vector of voxels leaves on its upper nodes */
INLINE void leave(int components, const struct slab *s, long k, long at, vec T[3][4], vec before[3][2]) {
    const long count = (s->length - k) / 2;
#pragma GCC unroll 3
    for (int c = 0; c < components; c++) {
        vec here[2];
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            const vec upper = T[c][2 * p] + T[c][2 * p + 1];
            here[p] = T[c][2 * p] - T[c][2 * p + 1] + moved_up(before[c][p], upper);
            before[c][p] = upper;
        }
        real *low = s->low + c * s->low_apart + at + k, *high = s->high + c * s->high_apart + at + k;
        const vec below = here[0] - here[1], above = here[0] + here[1];
        store_some(low, s->add_low ? load_some(low, count) + below : below, count);
        store_some(high, s->add_high ? load_some(high, count) + above : above, count);
    }
}

/* the first node of a row is the upper one of its last voxel */
INLINE void close_row(int components, const struct slab *s, long at, vec before[3][2]) {
    for (int c = 0; c < components; c++)
        for (int part = 0; part < 2; part++) {
            const int lane = (s->length - 2 + part) % WIDTH;
            const real sum = before[c][0][lane], difference = before[c][1][lane];
            s->low[c * s->low_apart + at + part] += sum - difference;
            s->high[c * s->high_apart + at + part] += sum + difference;
        }
}

/* one row of voxels, whose upper nodes' row is in edge. material: the row's first, laws `all` apart */
INLINE void voxels(int components, int laws, int stepping, const struct slab *s, const struct voxel *v,
                   const real *material, long all, long at, const vec *macro, vec *sum, vec *work) {
    vec before[3][2] = {{{0}}};
    for (long k = 0; k < s->length; k += WIDTH) {
        vec M[3][8], T[3][4], p[21];
#pragma GCC unroll 21
        for (int l = 0; l < laws; l++) p[l] = load_doubled(material + l * all + k / 2, (s->length - k) / 2);
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 2
            for (int m = 0; m < 2; m++) {
                const real *edge = s->edge + (2 * c + m) * s->row + k;
                real *met = s->met + (4 * c + 2 * m) * s->row + k;
                const vec a = load(edge), b = load(edge + 2), total = a + b, difference = b - a;
                const vec old_total = load(met), old_difference = load(met + s->row);
                M[c][4 * m] = old_total + total;
                M[c][4 * m + 1] = old_difference + difference;
                M[c][4 * m + 2] = total - old_total;
                M[c][4 * m + 3] = difference - old_difference;
                store(met, total);
                store(met + s->row, difference);
            }
        element(components, laws, stepping, p, v, macro, M, sum, work);
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 4
            for (int m = 0; m < 4; m++) { /* m = 2 p + r of the mode; along y q = 0 is the sum, 1 the difference */
                real *carried = s->carried + (4 * c + m) * s->row + k;
                const int even = 4 * (m / 2) + m % 2;
                const vec f = even ? M[c][even] : (vec){0}, odd = M[c][even + 2];
                T[c][m] = load(carried) + f - odd;
                store(carried, f + odd);
            }
        leave(components, s, k, at, T, before);
    }
    close_row(components, s, at, before);
}

/* what the last row of voxels leaves on the first row of nodes */
INLINE void close_slab(int components, struct slab s) {
    vec before[3][2] = {{{0}}};
    s.add_low = s.add_high = 1;
    for (long k = 0; k < s.length; k += WIDTH) {
        vec T[3][4];
#pragma GCC unroll 3
        for (int c = 0; c < components; c++)
#pragma GCC unroll 4
            for (int m = 0; m < 4; m++) {
                T[c][m] = load(s.carried + (4 * c + m) * s.row + k);
                store(s.carried + (4 * c + m) * s.row + k, (vec){0});
            }
        leave(components, &s, k, 0, T, before);
    }
    close_row(components, &s, 0, before);
}

/* x += alpha p; p = z + beta p */
INLINE void advance(real *restrict x, real *restrict p, const real *restrict z, real alpha, real beta, long size) {
    long k = 0;
    for (; k + WIDTH <= size; k += WIDTH) {
        const vec old = load(p + k);
        store(x + k, load(x + k) + alpha * old);
        store(p + k, load(z + k) + beta * old);
    }
    for (; k < size; k++) {
        x[k] += alpha * p[k];
        p[k] = z[k] + beta * p[k];
    }
}

/* A step of conjugate gradients that is taken before the product with the direction u. inverse: if given, the force is
 * what `along_columns` left, and goes through `backwards` first */
struct step {
    real *x, alpha, beta;
    const struct inverse *inverse;
};

/* Force = B^T law(macro + B u) over all voxels. u, force and macro are pairs; material is not. layout: how far components
 * and planes of the force lie apart; those of u lie side by side.
 *
 * The grid is cut into pieces along x. What a piece leaves on the first plane of the next one goes to edges (pieces,
 * components, plane), so that members of a team may work on different pieces; one piece alone leaves it on the plane.
 * sums (pieces, 20): u . force, of both parts, and after them, for a mere product, law(...) integrated over the voxels */
struct product {
    real *u, *force;
    const long *layout;
    const real *material;
    const long *n;
    const real *spacing, *macro;
    long pieces;
    real *edges;
    double *sums;
};

INLINE long first_of(const struct product *a, long piece) { return a->n[0] * piece / a->pieces; }

/* what the piece before this one left on its first plane; NULL where it is on the plane itself */
INLINE const real *edge_before(int components, const struct product *a, long piece) {
    const long before = piece ? piece - 1 : a->pieces - 1;
    return a->pieces == 1 ? NULL : a->edges + before * components * 2 * a->n[1] * a->n[2];
}

/* plane i of the force as it is in space */
INLINE void in_space(int components, const struct product *a, const struct step *s, long i, real *work) {
    if (s->inverse) ONE_OF(components, backwards)(s->inverse, a->force, i, NULL, NULL, work);
}

/* x += alpha u; u = force + beta u in a row of nodes of plane i */
INLINE void advance_row(int components, const struct product *a, const struct step *s, long i, long j) {
    const long length = 2 * a->n[2], plane = a->n[1] * length;
    for (int c = 0; c < components; c++) {
        const long at = (c * a->n[0] + i) * plane + j * length;
        const real *z = a->force + c * a->layout[0] + i * a->layout[1] + j * length;
        advance(s->x + at, a->u + at, z, s->alpha, s->beta, length);
    }
}

/* the first plane of a piece, for `apply` to begin with */
INLINE void begin(int components, const struct product *a, const struct step *s, long piece, real *work) {
    const long first = first_of(a, piece);
    in_space(components, a, s, first, work);
    for (long j = 0; j < a->n[1]; j++) advance_row(components, a, s, first, j);
}

/* where a slab of voxels leaves its forces. last: of its piece */
INLINE void place(struct slab *s, int components, const struct product *a, long i, long piece) {
    const long first = first_of(a, piece), end = first_of(a, piece + 1), plane = 2 * a->n[1] * a->n[2];
    s->low = a->force + i * a->layout[1];
    s->high = s->low + a->layout[1];
    s->low_apart = s->high_apart = a->layout[0];
    s->add_low = i > first;
    s->add_high = 0;
    if (i + 1 < end) return;
    if (a->pieces > 1) {
        s->high = a->edges + piece * components * plane;
        s->high_apart = plane;
    } else {
        s->high = a->force;
        s->add_high = 1;
    }
}

/* The product of a piece. step: unless NULL it is taken first, x += alpha u; u = force + beta u, but for the first plane,
 * see `begin`. rows: 30 of them, and a vector. work: of the transforms */
INLINE void apply(int components, int laws, const struct product *a, const struct step *step, long piece, real *rows,
                  real *work) {
    const long nx = a->n[0], ny = a->n[1], length = 2 * a->n[2], plane = ny * length, size = nx * plane;
    const long row = (length / WIDTH + 2) * WIDTH, first = first_of(a, piece), end = first_of(a, piece + 1);
    const int stepping = step != NULL;
    const struct voxel v = voxel_of(a->spacing);
    real *memory = (real *)aligned(rows);
    struct slab s = {.edge = memory, .met = memory + 6 * row, .carried = memory + 18 * row, .length = length, .row = row};
    for (long k = 0; k < 30 * row; k++) memory[k] = 0; /* lanes beyond the row: numbers */
    vec mean[9];
    wide sums[10] = {{0}};
    for (int m = 0; m < 3 * components && !stepping; m++) mean[m] = repeated(a->macro + 2 * m);
    for (long i = first; i < end; i++) {
        const long next = i + 1 == nx ? 0 : i + 1;
        const real *low = a->u + i * plane, *high = a->u + next * plane;
        const int fresh = stepping && i + 1 < end;
        place(&s, components, a, i, piece);
        if (fresh) in_space(components, a, step, next, work);
        for (long j = -1; j < ny; j++) { /* nodes of row j + 1, then the voxels below them */
            const long upper = j + 1 == ny ? 0 : j + 1;
            if (fresh && j + 1 < ny) advance_row(components, a, step, next, upper);
            join(components, &s, low + upper * length, high + upper * length, size);
            if (j < 0) {
                meet(components, &s);
                continue;
            }
            vec sum[9] = {{0}}, energy = {0};
            const real *material = a->material + (i * plane + j * length) / 2;
            voxels(components, laws, stepping, &s, &v, material, size / 2, j * length, mean, sum, &energy);
            sums[0] += __builtin_convertvector(energy, wide);
            for (int m = 0; m < 3 * components && !stepping; m++) sums[1 + m] += __builtin_convertvector(sum[m], wide);
        }
        close_slab(components, s);
    }
    const double volume = (double)a->spacing[0] * a->spacing[1] * a->spacing[2];
    double *found = a->sums + 20 * piece;
    for (int m = 0; m < 20; m++) found[m] = 0;
    for (int m = 0; m <= (stepping ? 0 : 3 * components); m++)
        for (int lane = 0; lane < WIDTH; lane++) found[2 * m + (lane & 1)] += m ? sums[m][lane] * volume : sums[0][lane];
}

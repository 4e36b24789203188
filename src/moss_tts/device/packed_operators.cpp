/* Two operators of MLX, with MLX's own meaning, for what packed_products.c computes: x float32 on a CPU, times the
 * transpose of a matrix that is affinely quantised, or bfloat16. Everything else goes to MLX's own operators.
 *
 * MLX would first cast scales, biases or the matrix to float32. Built against the headers of the mlx that is
 * installed; packed_door.cpp lets MLX call it. */

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "packed_door.h"

extern "C" {
#include "packed_products.h"
}

namespace mlx::core {
namespace {

moss_tts::operators original;

struct Format {
    int bits, group;
};

/* Rows of x one after the other. */
void copy_rows(const array &x, float *to) {
    const auto &shape = x.shape();
    const auto &strides = x.strides();
    long width = shape.back(), step = strides.back(), rows = width ? x.size() / width : 0;
    for (long row = 0; row < rows; row++, to += width) {
        long rest = row, offset = 0;
        for (int axis = static_cast<int>(shape.size()) - 2; axis >= 0; axis--) {
            offset += rest % shape[axis] * strides[axis];
            rest /= shape[axis];
        }
        const float *from = x.data<float>() + offset;
        for (long i = 0; i < width; i++) to[i] = from[i * step];
    }
}

/* x (..., K), w (N, K) and perhaps scales and biases -> (..., N). */
class PackedProduct : public UnaryPrimitive {
  public:
    PackedProduct(Stream stream, Format format) : UnaryPrimitive(stream), format_(format) {}

    void eval_cpu(const std::vector<array> &inputs, array &out) override {
        out.set_data(allocator::malloc(out.nbytes()));
        auto &encoder = cpu::get_command_encoder(stream());
        array x = inputs[0];
        if (!x.flags().row_contiguous) {
            array copy(x.shape(), float32, nullptr, {});
            copy.set_data(allocator::malloc(copy.nbytes()));
            encoder.dispatch([x = array::unsafe_weak_copy(x), to = copy.data<float>()]() { copy_rows(x, to); });
            encoder.add_temporary(copy);
            x = copy;
        }
        packed_product made{};
        made.width = x.shape(-1), made.columns = out.shape(-1), made.rows = x.size() / made.width;
        made.bits = format_.bits, made.group = format_.group;
        made.x = x.data<float>(), made.w = inputs[1].data<uint8_t>(), made.y = out.data<float>();
        if (inputs.size() > 2) {
            Dtype type = inputs[2].dtype();
            made.scale_type = type == float32 ? FLOAT32 : type == bfloat16 ? BFLOAT16 : FLOAT16;
            made.scales = inputs[2].data<void>(), made.biases = inputs[3].data<void>();
        }
        encoder.dispatch([made]() {
            if (!moss_tts_packed_product(&made)) throw std::bad_alloc();
        });
    }

    void eval_gpu(const std::vector<array> &, array &) override {
        throw std::runtime_error("products with packed weights are computed on CPUs only.");
    }

    const char *name() const override { return "PackedProduct"; }

  private:
    Format format_;
};

/* Whether C can read it in place: a matrix whose rows lie one after the other. */
bool is_in_place(const array &w) {
    return w.ndim() == 2 && w.status() != array::unscheduled && w.flags().row_contiguous && !w.is_tracer();
}

bool is_float_row(const array &x, StreamOrDevice s, Stream &stream) {
    if (x.dtype() != float32 || x.ndim() == 0 || x.size() == 0 || x.is_tracer()) return false;
    stream = to_stream(s);
    return stream.device == Device::cpu;
}

array product(std::vector<array> inputs, Format format, Stream stream) {
    auto shape = inputs[0].shape();
    shape.back() = inputs[1].shape(0);
    return array(std::move(shape), float32, std::make_shared<PackedProduct>(stream, format), std::move(inputs));
}

/* The matrix that `turned` is the transpose of. */
const array *source_of(const array &turned) {
    bool lazy = turned.ndim() == 2 && turned.status() == array::unscheduled && turned.has_primitive() &&
        std::string_view(turned.primitive().name()) == "Transpose";
    return lazy && is_in_place(turned.inputs()[0]) ? &turned.inputs()[0] : nullptr;
}

array product_or_original(const array &a, const array &b, StreamOrDevice s) {
    Stream stream(0, Device::cpu);
    if (b.dtype() == bfloat16 && is_float_row(a, s, stream)) {
        const array *w = source_of(b);
        if (w && w->shape(1) == a.shape(-1) && w->shape(1) == b.shape(0) && w->shape(1) % 2 == 0 && w->shape(0) > 0)
            return product({a, *w}, {16, 1}, stream);
    }
    return original.product(a, b, s);
}

bool fits(const array &x, const array &w, const array &scales, const array &biases, Format format) {
    bool width = format.bits >= 2 && format.bits <= 8 && format.bits != 7;
    bool group = format.group >= 32 && (format.group & (format.group - 1)) == 0;
    if (!width || !group || !is_in_place(w) || !is_in_place(scales) || !is_in_place(biases)) return false;
    Dtype type = scales.dtype();
    bool types = w.dtype() == uint32 && type == biases.dtype() && (type == float32 || type == bfloat16 || type == float16);
    long size = x.shape(-1);
    return types && w.shape(0) > 0 && size % format.group == 0 && w.shape(1) * 32L == size * format.bits &&
        scales.shape() == Shape{w.shape(0), static_cast<int>(size / format.group)} && scales.shape() == biases.shape();
}

array quantised_or_original(
    const array &x, const array &w, const array &scales, const std::optional<array> &biases, bool transpose,
    std::optional<int> group_size, std::optional<int> bits, const std::string &mode, StreamOrDevice s) {
    Stream stream(0, Device::cpu);
    Format format{bits.value_or(4), group_size.value_or(64)};
    if (transpose && biases && mode == "affine" && is_float_row(x, s, stream) && fits(x, w, scales, *biases, format))
        return product({x, w, scales, *biases}, format, stream);
    return original.quantised(x, w, scales, biases, transpose, group_size, bits, mode, s);
}

}  // namespace
}  // namespace mlx::core

extern "C" MLX_API moss_tts::operators moss_tts_operators(moss_tts::operators mlx) {
    mlx::core::original = mlx;
    return {mlx::core::product_or_original, mlx::core::quantised_or_original};
}
